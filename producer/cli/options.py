"""Options and arguments that several commands share, so that they read the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="FOLDER",
        help="Folder of the embedded stack, where no EDICT_* variables name services. "
        "Default: EDICT_HOME, else .edict.",
    ),
]
Devices = Annotated[
    str,
    typer.Option(
        "--devices",
        metavar="LIST",
        help="One worker process for each: GPU numbers (0,1), CPU shares (cpu,cpu), or all.",
    ),
]
Images = Annotated[
    list[str], typer.Argument(metavar="IMAGE", help="Files, or s3://bucket/key addresses.")
]
BasePrompt = Annotated[
    str, typer.Option("--from", metavar="PROMPT", help="What the images show now.")
]
Model = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME", help="Of the catalogue. Default: its first."),
]
Steps = Annotated[
    int, typer.Option("--steps", min=1, max=1000, help="Length of the timestep grid.")
]
Strength = Annotated[
    float,
    typer.Option("--strength", help="Share of the steps to go back, in (0, 1]: 1 is pure noise."),
]
Guidance = Annotated[
    float, typer.Option("--guidance", min=0, max=100, help="Classifier-free guidance scale.")
]
Mix = Annotated[
    float, typer.Option("--mix", min=0.5, max=1, help="Weight p that couples the two latents.")
]
Sampler = Annotated[
    str,
    typer.Option(
        "--sampler",
        metavar="NAME",
        help="edict and bdia are exact (bdia at half the network calls), o-belm nearly; ddim and "
        "sdedit are what they are compared with.",
    ),
]
Gamma = Annotated[float, typer.Option("--gamma", help="BDIA's weight of the level before.")]
Rescale = Annotated[
    float,
    typer.Option("--guidance-rescale", help="0 to 1: take back the contrast that guidance adds."),
]
Interval = Annotated[
    tuple[float, float],
    typer.Option(
        "--guidance-interval",
        metavar="LOW HIGH",
        help="Guide at these noise levels only, 0 (clean) to 1 (noise).",
    ),
]
EditGuidance = Annotated[
    float | None,
    typer.Option("--edit-guidance", min=0, max=100, help="Instead of --guidance, for the edit."),
]
Mask = Annotated[
    str | None,
    typer.Option(
        "--mask",
        metavar="FILE|auto",
        help="Change only where this image is white; auto finds the place from the prompts.",
    ),
]
KeepPixels = Annotated[
    bool,
    typer.Option("--keep-pixels", help="Outside of the mask, keep the image's own pixels."),
]
AttentionControl = Annotated[
    bool,
    typer.Option(
        "--attention-control", help="Prompt-to-Prompt: keep the base prompt's attention maps."
    ),
]
Size = Annotated[
    int | None,
    typer.Option("--size", min=8, max=4096, help="Pixels of a side. Default: the model's own."),
]
Fit = Annotated[
    str,
    typer.Option("--fit", metavar="crop|fit", help="Cut the centre square, or keep all of it."),
]
Format = Annotated[
    str,
    typer.Option("--format", metavar="png|jpeg|webp", help="Of the result; png loses nothing."),
]
Quality = Annotated[
    int | None,
    typer.Option("--quality", min=1, max=100, help="Of jpeg and webp. Default: 90."),
]
Batch = Annotated[
    str | None,
    typer.Option("--batch", metavar="NAME", help="Put the jobs into the batch of that name."),
]
TheBatch = Annotated[str, typer.Argument(metavar="BATCH", help="Its name or id.")]
AnyBatch = Annotated[
    str | None, typer.Argument(metavar="[BATCH]", help="Name or id. Default: all jobs.")
]
JobOrBatch = Annotated[
    str | None,
    typer.Argument(metavar="[JOB|BATCH]", help="A job's id, a batch's name or id."),
]
Approved = Annotated[
    bool, typer.Option("--approved", help="Only what was approved in the dashboard.")
]
Priority = Annotated[
    int,
    typer.Option(
        "--priority",
        min=-1000,
        max=1000,
        help="Higher goes first. From 100 on a job is interactive: it waits for no bulk job.",
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Do it again, even if the same was done before.")
]
Webhook = Annotated[
    str | None,
    typer.Option("--webhook", metavar="URL", help="Call it when the batch has ended."),
]
JobWebhook = Annotated[
    str | None,
    typer.Option("--job-webhook", metavar="URL", help="Call it when a job has ended, for each."),
]
Wait = Annotated[
    bool, typer.Option("--wait", help="Follow the batch to its end; 0 only if all succeeded.")
]

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
OneObject = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Kind = Annotated[
    str | None,
    typer.Option("--kind", metavar="KIND", help="inversion, edit or reconstruction."),
]
Code = Annotated[
    str | None, typer.Option("--code", metavar="CODE", help="Of the error that they met last.")
]
OfModel = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="Of this model, at any revision.")
]
Says = Annotated[
    str | None,
    typer.Option("--prompt", metavar="TEXT", help="With this in their base or edit prompt."),
]


def examples(*lines: str) -> str:
    """An epilog of examples, one command a line."""
    return "\n\n".join(["[bold]Examples[/]", *(f"  {line}" for line in lines)])


def device_names(text: str) -> list[str]:
    """The devices of a `--devices` option."""
    return [name.strip() for name in text.split(",") if name.strip()]


MetricsPort = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        metavar="PORT",
        min=1,
        max=65535,
        help="Answer Prometheus at /metrics there, on all addresses. Default: no port.",
    ),
]
