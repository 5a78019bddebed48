"""`edict eval`: compare samplers on images, in a process of the worker package."""

import sys
from collections.abc import Mapping
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from producer.cli import options
from producer.cli.options import examples
from producer.cli.signals import stop_on_signals

NEEDED = ("torch", "diffusers", "transformers", "torchmetrics")
POLL_SECONDS = 0.05
STOP_SECONDS = 60.0
"""A call of the network, or the loading of a model, is not broken off in its middle."""

app = typer.Typer(
    help="Compare samplers on your own images: what each keeps, and what it changes.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog=examples(
        "edict eval reconstruction photographs --prompt 'a photo' --limit 16",
        "edict eval edits edits.jsonl --json",
    ),
)


class Precision(StrEnum):
    """Of the network."""

    FLOAT64 = "float64"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


Source = Annotated[
    str,
    typer.Option("--model", metavar="NAME", help="demo, a folder, or a hub id; @REVISION pins."),
]
Dtype = Annotated[Precision, typer.Option("--dtype", help="The network's precision.")]
Device = Annotated[
    str, typer.Option("--device", metavar="NAME", help="cpu, cuda, cuda:1; auto takes a GPU.")
]
Rows = Annotated[
    int,
    typer.Option("--rows", min=2, max=1024, help="Rows of a batch; an image takes two of them."),
]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, metavar="N", help="Take the first N only.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]


@app.command(
    epilog=examples(
        "edict eval reconstruction photographs --prompt 'a photo of lemons' --limit 16",
        "edict eval reconstruction photographs --captions captions.jsonl --json",
        "edict eval reconstruction photographs --model /models/stable-diffusion-v1-5 "
        "--dtype bfloat16",
    )
)
def reconstruction(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Images, here and in folders below.")
    ],
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt",
            metavar="TEXT",
            help="What all images show. Default: what a .txt beside each says.",
        ),
    ] = None,
    captions: Annotated[
        Path | None,
        typer.Option(
            "--captions", metavar="FILE", help='JSON lines of "image" (beside FILE) and "prompt".'
        ),
    ] = None,
    model: Source = "demo",
    dtype: Dtype = Precision.FLOAT32,
    device: Device = "auto",
    steps: options.Steps = 50,
    strength: options.Strength = 1.0,
    guidance: options.Guidance = 7.0,
    rows: Rows = 16,
    size: options.Size = None,
    limit: Limit = None,
    json: Json = False,
) -> None:
    """Take images to noise and back by each sampler, and measure what is lost.

    MSE is on pixels in -1..1. An exact sampler loses what the VAE alone loses and no more. ddim-c
    has the prompt and the guidance, ddim-uc neither.
    """
    given = {"--prompt": prompt, "--captions": captions}
    common = _common(model, dtype, device, steps, strength, guidance, rows, size, limit)
    _run("reconstruction", folder, given | common, json=json)


@app.command(
    epilog=examples(
        "edict eval edits edits.jsonl",
        "edict eval edits edits.jsonl --clip /models/clip-vit-base-patch32 --json",
    )
)
def edits(
    manifest: Annotated[
        Path,
        typer.Argument(
            metavar="MANIFEST",
            help='JSON lines of "image" (beside MANIFEST), "base_prompt", "edit_prompt" and, '
            'where it is known, "mask": white where the edit should be.',
        ),
    ],
    clip: Annotated[
        Path | None,
        typer.Option("--clip", metavar="FOLDER", help="A CLIP model (safetensors) to judge by."),
    ] = None,
    model: Source = "demo",
    dtype: Dtype = Precision.FLOAT32,
    device: Device = "auto",
    steps: options.Steps = 50,
    strength: options.Strength = 0.8,
    guidance: options.Guidance = 3.0,
    rows: Rows = 16,
    size: options.Size = None,
    limit: Limit = None,
    json: Json = False,
) -> None:
    """Edit images by each sampler, and measure what stayed and what became as the prompt says.

    What stayed: PSNR outside the mask, or without one the distance of structure (0 is the same).
    The mask is for measuring only. Obeyed: the share of colour and style words of the edit prompt
    (blue, black and white, pencil sketch, at night, in warm light) that the result shows.
    """
    common = _common(model, dtype, device, steps, strength, guidance, rows, size, limit)
    _run("edits", manifest, {"--clip": clip} | common, json=json)


def _common(
    model: str,
    dtype: Precision,
    device: str,
    steps: int,
    strength: float,
    guidance: float,
    rows: int,
    size: int | None,
    limit: int | None,
) -> dict[str, object]:
    return {
        "--model": model,
        "--dtype": dtype,
        "--device": device,
        "--steps": steps,
        "--strength": strength,
        "--guidance": guidance,
        "--rows": rows,
        "--size": size,
        "--limit": limit,
    }


def _run(command: str, subject: Path, given: Mapping[str, object], *, json: bool) -> None:
    """Start the comparison and wait for it; its exit status is ours."""
    from jobs.errors import ConfigurationError
    from jobs.processes import Child

    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ConfigurationError(
            f"a comparison needs {', '.join(missing)}, not installed here; "
            "run pip install 'edict[worker]'"
        )
    # With "=", so that what starts with "-" is a value and no option.
    parts = [f"{name}={value}" for name, value in given.items() if value is not None]
    parts += ["--json"] if json else []
    stop = stop_on_signals()
    line = [sys.executable, "-m", "worker.quality", command, *parts, "--", str(subject)]
    with Child("comparison", line) as child:
        while child.is_running and not stop.is_set():
            stop.wait(POLL_SECONDS)
        status = child.stop(STOP_SECONDS) if stop.is_set() else child.wait()
    raise typer.Exit(1 if status is None or status < 0 else status)
