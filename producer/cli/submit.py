"""`edict submit`: many images, many prompts; bad ones are refused at the door, the others go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from producer.cli import options
from producer.cli.options import examples
from producer.cli.output import err, out, print_data, say, state_cell, table

if TYPE_CHECKING:
    from jobs.records import Batch, Submission
    from jobs.specs import OutputOptions
    from producer.admission import Admission, Row
    from producer.client import Client

SHOWN = 20
"""Jobs that are listed one by one; larger submissions are summed up."""

app = typer.Typer(
    help="Submit work: inversions, edits, reconstructions.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog=examples(
        "edict submit edit *.jpg --from 'a photo of a cat' --to 'a pencil sketch of a cat' --wait",
        "edict submit reconstruct cat.jpg --from 'a photo of a cat'",
        "edict submit invert s3://photos/cat.jpg --from 'a photo of a cat'",
    ),
)

EditPrompts = Annotated[
    list[str], typer.Option("--to", metavar="PROMPT", help="What it should show. Repeatable.")
]
Negative = Annotated[
    str, typer.Option("--negative", metavar="PROMPT", help="What guidance leads away from.")
]


@dataclass(frozen=True)
class _Order:
    """How the rows are to be submitted."""

    home: Path | None
    model: str | None
    batch: str | None
    priority: int
    force: bool
    wait: bool
    webhook: str | None
    job_webhook: str | None
    json: bool


@app.command(
    epilog=examples(
        "edict submit edit lemons.jpg --from 'a photo of lemons' --to 'blue lemons'",
        "edict submit edit *.jpg --from 'a photo of lemons' --to 'blue lemons' --to 'green limes' "
        "--batch fruit --wait",
        "edict submit edit s3://photos/cat.jpg --from 'a cat' --to 'a dog' --strength 0.6 "
        "--edit-guidance 7",
        "edict submit edit cat.jpg --from 'a cat' --to 'a dog' --mask auto --keep-pixels",
    )
)
def edit(
    images: options.Images,
    base: options.BasePrompt,
    to: EditPrompts,
    negative: Negative = "",
    edit_guidance: options.EditGuidance = None,
    mask: options.Mask = None,
    keep_pixels: options.KeepPixels = False,
    attention_control: options.AttentionControl = False,
    steps: options.Steps = 50,
    strength: options.Strength = 0.8,
    guidance: options.Guidance = 3.0,
    mix: options.Mix = 0.93,
    sampler: options.Sampler = "edict",
    gamma: options.Gamma = 0.96,
    guidance_rescale: options.Rescale = 0.0,
    guidance_interval: options.Interval = (0.0, 1.0),
    size: options.Size = None,
    fit: options.Fit = "crop",
    format_: options.Format = "png",
    quality: options.Quality = None,
    model: options.Model = None,
    batch: options.Batch = None,
    priority: options.Priority = 0,
    force: options.Force = False,
    wait: options.Wait = False,
    webhook: options.Webhook = None,
    job_webhook: options.JobWebhook = None,
    json: options.Json = False,
    home: options.Home = None,
) -> None:
    """Edit every image under every --to prompt; one inversion serves all edits of an image."""
    from producer.admission import edit_rows

    how = _sampler(
        sampler, steps, strength, guidance, mix, gamma, guidance_rescale, guidance_interval
    )
    fields = {
        **_fields(base, how, size, fit),
        "negative_prompt": negative,
        "edit_guidance_scale": edit_guidance,
        "attention_control": attention_control,
        "mask": mask,
        "keep_pixels": keep_pixels,
        "output": _output(format_, quality),
    }
    order = _Order(home, model, batch, priority, force, wait, webhook, job_webhook, json)
    _submit(edit_rows(images, to, fields), order)


@app.command(
    epilog=examples("edict submit invert *.jpg --from 'a photo of lemons' --batch fruit --wait")
)
def invert(
    images: options.Images,
    base: options.BasePrompt,
    steps: options.Steps = 50,
    strength: options.Strength = 0.8,
    guidance: options.Guidance = 3.0,
    mix: options.Mix = 0.93,
    sampler: options.Sampler = "edict",
    gamma: options.Gamma = 0.96,
    guidance_rescale: options.Rescale = 0.0,
    guidance_interval: options.Interval = (0.0, 1.0),
    size: options.Size = None,
    fit: options.Fit = "crop",
    model: options.Model = None,
    batch: options.Batch = None,
    priority: options.Priority = 0,
    force: options.Force = False,
    wait: options.Wait = False,
    webhook: options.Webhook = None,
    job_webhook: options.JobWebhook = None,
    json: options.Json = False,
    home: options.Home = None,
) -> None:
    """Find and store each image's noise, so that later edits need not."""
    how = _sampler(
        sampler, steps, strength, guidance, mix, gamma, guidance_rescale, guidance_interval
    )
    fields = {"kind": "inversion", **_fields(base, how, size, fit)}
    _submit(
        _rows(images, fields),
        _Order(home, model, batch, priority, force, wait, webhook, job_webhook, json),
    )


@app.command(
    epilog=examples("edict submit reconstruct *.jpg --from 'a photo of lemons' --strength 1 --wait")
)
def reconstruct(
    images: options.Images,
    base: options.BasePrompt,
    steps: options.Steps = 50,
    strength: options.Strength = 0.8,
    guidance: options.Guidance = 3.0,
    mix: options.Mix = 0.93,
    sampler: options.Sampler = "edict",
    gamma: options.Gamma = 0.96,
    guidance_rescale: options.Rescale = 0.0,
    guidance_interval: options.Interval = (0.0, 1.0),
    size: options.Size = None,
    fit: options.Fit = "crop",
    format_: options.Format = "png",
    quality: options.Quality = None,
    model: options.Model = None,
    batch: options.Batch = None,
    priority: options.Priority = 0,
    force: options.Force = False,
    wait: options.Wait = False,
    webhook: options.Webhook = None,
    job_webhook: options.JobWebhook = None,
    json: options.Json = False,
    home: options.Home = None,
) -> None:
    """Invert each image and generate it back, and measure how exactly it returned."""
    how = _sampler(
        sampler, steps, strength, guidance, mix, gamma, guidance_rescale, guidance_interval
    )
    fields = {
        "kind": "reconstruction",
        **_fields(base, how, size, fit),
        "output": _output(format_, quality),
    }
    _submit(
        _rows(images, fields),
        _Order(home, model, batch, priority, force, wait, webhook, job_webhook, json),
    )


def _sampler(
    name: str,
    steps: int,
    strength: float,
    guidance: float,
    mix: float,
    gamma: float,
    rescale: float,
    interval: tuple[float, float],
) -> dict[str, Any]:
    """The options of the sampler, as a spec has them."""
    return {
        "name": name,
        "steps": steps,
        "strength": strength,
        "guidance_scale": guidance,
        "mix": mix,
        "gamma": gamma,
        "guidance_rescale": rescale,
        "guidance_interval": interval,
    }


def _fields(base: str, sampler: Mapping[str, Any], size: int | None, fit: str) -> dict[str, Any]:
    """What all kinds share, checked: a wrong option is wrong for every image."""
    from pydantic import ValidationError

    from jobs.specs import ImageOptions, SamplerOptions, invalid_input

    try:
        return {
            "base_prompt": base,
            "sampler": SamplerOptions.model_validate(sampler),
            "image": ImageOptions.model_validate({"size": size, "fit": fit}),
        }
    except ValidationError as error:
        raise invalid_input(error) from None


def _output(format_: str, quality: int | None) -> "OutputOptions":
    """The options of the result's file, checked."""
    from pydantic import ValidationError

    from jobs.specs import OutputOptions, invalid_input

    try:
        return OutputOptions.model_validate({"format": format_, "quality": quality})
    except ValidationError as error:
        raise invalid_input(error) from None


def _rows(images: Sequence[str], fields: Mapping[str, Any]) -> list["Row"]:
    from producer.admission import Row

    return [Row(image, fields) for image in images]


def _submit(rows: Sequence["Row"], order: _Order) -> None:
    from producer.admission import admit
    from producer.cli.services import open_client
    from producer.cli.watch import follow_batch

    with open_client(order.home) as client:
        _check(order, client)
        admission = admit(rows, client.sources, client.model(order.model))
        for refusal in admission.refused:
            say(f"[red]refused[/] {escape(str(refusal))}")
        succeeded = not admission.refused
        if admission.accepted:
            batch = client.store.open_batch(order.batch)
            submissions = client.submit(
                admission.specs,
                batch_id=batch.id,
                priority=order.priority,
                force=order.force,
                webhook=order.job_webhook,
                batch_webhook=order.webhook,
            )
            if order.json:
                print_data(_plain(rows, admission, submissions, batch))
            else:
                _report(rows, admission, submissions, batch.name or str(batch.id))
            if order.wait:
                # One document is printed, whether or not it is waited for.
                shown = err if order.json else out
                succeeded &= follow_batch(client, batch, shown=shown)
        else:
            say(f"0 submitted, {len(admission.refused)} refused")
            if order.json:
                print_data(_plain(rows, admission, [], None))
    raise typer.Exit(0 if succeeded else 1)


def _check(order: _Order, client: "Client") -> None:
    """Refuse what is wrong whatever the images are, before any is uploaded or a batch is made.

    Raises:
        InvalidInput: the batch's name, or a webhook; the command's or that of the settings.
    """
    from jobs.store.submitting import check_batch_name

    if order.batch is not None:
        check_batch_name(order.batch)
    client.check_webhooks(order.job_webhook, order.webhook or client.settings.webhook_url)


def _plain(
    rows: Sequence["Row"],
    admission: "Admission",
    submissions: Sequence["Submission"],
    batch: "Batch | None",
) -> dict[str, Any]:
    """What was submitted and what was refused, as JSON data."""
    numbers = [number for number, _ in admission.accepted]
    jobs = [
        {
            "id": str(made.job_id),
            "state": made.state.value,
            "created": made.created,
            "image": rows[number - 1].image,
            "prompt": rows[number - 1].fields.get("edit_prompt"),
        }
        for number, made in zip(numbers, submissions, strict=True)
    ]
    named = None if batch is None else {"id": str(batch.id), "name": batch.name}
    return {"batch": named, "jobs": jobs, "refused": [str(each) for each in admission.refused]}


def _report(
    rows: Sequence["Row"],
    admission: "Admission",
    submissions: Sequence["Submission"],
    batch: str,
) -> None:
    if len(submissions) <= SHOWN:
        listed = table("job", "state", "image", "prompt")
        for (number, _), made in zip(admission.accepted, submissions, strict=True):
            row = rows[number - 1]
            prompt = str(row.fields.get("edit_prompt", row.fields["kind"]))
            listed.add_row(
                str(made.job_id), state_cell(made.state), escape(row.image), escape(prompt)
            )
        out.print(listed)
    known = sum(not made.created for made in submissions)
    say(
        f"{len(submissions)} submitted"
        + (f" ({known} known before)" if known else "")
        + (f", {len(admission.refused)} refused" if admission.refused else "")
        + f" · batch [bold]{escape(batch)}[/]"
    )
