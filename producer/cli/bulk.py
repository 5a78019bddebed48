"""`edict bulk`: a manifest of any length as one batch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from jobs.lanes import INTERACTIVE_PRIORITY
from producer.cli import options
from producer.cli.options import examples
from producer.cli.output import err, out, say

if TYPE_CHECKING:
    from producer.bulk import Report
    from producer.bulk.places import Root
    from producer.bulk.run import Look

EXAMPLES = examples(
    "edict bulk edits.jsonl --name fruit --dry-run",
    "edict bulk captions.csv --name seasons --map image=file_path --from '{caption}' "
    "--to '{caption}, in {season}' --vary season=winter,summer",
    "edict bulk s3://photos/2026/ --name sketches --from '{caption}' --to 'a sketch of {caption}'",
    "edict bulk edits.parquet --name fruit --sample 100 --steps 25 --gate 'psnr>=18'",
    "edict bulk photos --name green --from '{caption}' --to 'a red car' --mask auto --keep-pixels",
)
PRIORITIES = {"bulk": 0, "interactive": INTERACTIVE_PRIORITY}

Where = Annotated[
    str,
    typer.Argument(
        metavar="MANIFEST",
        help="JSONL, CSV, TSV or Parquet, gzip or zstd too; a folder of images; or the same "
        "at s3://bucket/key, a prefix ending in /.",
    ),
]
Name = Annotated[
    str, typer.Option("--name", metavar="NAME", help="Of the batch: again is to go on.")
]
Base = Annotated[
    str | None,
    typer.Option("--from", metavar="TEMPLATE", help="What each image shows: '{caption}'."),
]
Edits = Annotated[
    list[str] | None,
    typer.Option("--to", metavar="TEMPLATE", help="An edit: '{caption}, at night'. Repeatable."),
]
Vary = Annotated[
    list[str] | None,
    typer.Option("--vary", metavar="NAME=A,B,…", help="Every --to once for each. Repeatable."),
]
Columns = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="FIELD=COLUMN", help="What a column is. Repeatable."),
]
Folder = Annotated[
    str | None,
    typer.Option("--root", metavar="FOLDER", help="Of the images. Default: the manifest's."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check all rows; say what they would cost.")
]
First = Annotated[
    int | None, typer.Option("--limit", min=1, metavar="N", help="Take the first N rows.")
]
Sample = Annotated[
    int | None, typer.Option("--sample", min=1, metavar="N", help="Take N rows by chance.")
]
SkipInvalid = Annotated[
    bool, typer.Option("--skip-invalid", help="Submit the good rows, whatever the others are.")
]
Rejects = Annotated[
    Path, typer.Option("--rejects", metavar="FILE", help="Where refused rows are written.")
]
Urgency = Annotated[
    str,
    typer.Option("--priority", metavar="bulk|interactive|N", help="Higher is announced first."),
]
Gate = Annotated[
    list[str] | None,
    typer.Option(
        "--gate",
        metavar="FIGURE>=X",
        help="Flag results that are not like this: 'psnr>=20', 'exact=true'. Repeatable.",
    ),
]
Negative = Annotated[
    str | None, typer.Option("--negative", metavar="PROMPT", help="Where a row has none.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")]


def bulk(
    manifest: Where,
    name: Name,
    base: Base = None,
    to: Edits = None,
    vary: Vary = None,
    columns: Columns = None,
    root: Folder = None,
    dry_run: DryRun = False,
    limit: First = None,
    sample: Sample = None,
    skip_invalid: SkipInvalid = False,
    rejects: Rejects = Path("rejects.jsonl"),
    priority: Urgency = "bulk",
    gate: Gate = None,
    negative: Negative = None,
    edit_guidance: options.EditGuidance = None,
    mask: options.Mask = None,
    keep_pixels: options.KeepPixels = False,
    attention_control: options.AttentionControl = False,
    steps: options.Steps = 50,
    strength: options.Strength = 0.8,
    guidance: options.Guidance = 3.0,
    mix: options.Mix = 0.93,
    sampler: options.Sampler = "edict",
    size: options.Size = None,
    fit: options.Fit = "crop",
    model: options.Model = None,
    force: options.Force = False,
    json: Json = False,
    home: options.Home = None,
) -> None:
    """Submit a manifest: one row is one image with one or many edits.

    Columns: image, base_prompt, edit_prompt or edits (a list), and any option of a job (steps,
    strength, mask, …), which then goes before the one given here. All rows are checked before the
    first is submitted. Run it again to go on where it was interrupted, or to submit what is new.
    """
    from producer.bulk import BulkOptions, Plan, Template, open_manifest, run_bulk
    from producer.cli.services import open_client

    template = Template.parse(base, to or [], _pairs("vary", vary, several=True))
    urgency = _priority(priority)
    wanted = BulkOptions(
        name, urgency, limit, sample, skip_invalid, force, rejects.absolute(), tuple(gate or ())
    )
    given = _given(
        negative_prompt=negative,
        edit_guidance_scale=edit_guidance,
        mask=mask,
        keep_pixels=keep_pixels or None,
        attention_control=attention_control or None,
        steps=steps,
        strength=strength,
        guidance_scale=guidance,
        mix=mix,
        sampler=sampler,
        size=size,
        fit=fit,
        model=model,
    )
    with open_client(home) as client, _progress() as look:
        plan = Plan(lru_cache(client.model), template, _pairs("map", columns, several=False), given)
        rows = open_manifest(manifest, client.objects, root=root)
        report = run_bulk(client, rows, plan, wanted, dry_run=dry_run, look=look)
    _tell(report, rows.root, name, dry_run=dry_run)
    if json:
        _print_json(report)
    raise typer.Exit(1 if report.refused else 0)


def _given(**fields: Any) -> dict[str, Any]:
    """What holds where a row says nothing, as a plan has it."""
    return {field: value for field, value in fields.items() if value is not None}


def _pairs(option: str, given: Sequence[str] | None, *, several: bool) -> dict[str, Any]:
    """`NAME=VALUE` options as a dictionary; values are lists where there may be several."""
    from jobs.errors import InvalidInput

    pairs: dict[str, Any] = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not (name and equals and value) or name in pairs:
            raise InvalidInput(option, f"{text!r} is not NAME=VALUE, each name once")
        values = list(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
        pairs[name] = values if several else value
    return pairs


def _priority(text: str) -> int:
    from jobs.errors import InvalidInput

    if text in PRIORITIES:
        return PRIORITIES[text]
    try:
        return int(text)
    except ValueError:
        names = ", ".join(PRIORITIES)
        raise InvalidInput("priority", f"{text!r} is neither a number nor one of {names}") from None


@contextmanager
def _progress() -> Iterator["Look"]:
    with err.status("reading") as status:

        def look(report: "Report") -> None:
            made = f", {report.created} jobs made" if report.created or report.known else ""
            status.update(f"{report.rows} rows{made}, {report.refused} refused")

        yield look


def _tell(report: "Report", root: "Root", name: str, *, dry_run: bool) -> None:
    for each in report.first_refused:
        say(f"[red]refused[/] {escape(str(each))}")
    if report.rejects is not None:
        say(f"{report.refused} of {report.rows} rows refused: {escape(str(report.rejects))}")
        if root.folder != report.rejects.parent.resolve():
            say(f"their images are found with --root {escape(str(root))}")
    if report.unused_columns:
        say(f"[dim]columns that nothing uses: {escape(', '.join(report.unused_columns[:20]))}[/]")
    if report.estimate is not None:
        _tell_estimate(report)
    elif report.submitted:
        say(
            f"{report.created} jobs made, {report.known} known before, "
            f"{report.passed_over} of {report.rows} rows were in already"
            + (f", {report.revived} tried again" if report.revived else "")
            + (f", {report.restored} lost images uploaded again" if report.restored else "")
            + f" · batch [bold]{escape(name)}[/]: `edict watch {escape(name)}`"
        )
    if not report.submitted and not dry_run:
        say("nothing was submitted; mend the rows, or leave them out with --skip-invalid")


def _tell_estimate(report: "Report") -> None:
    from producer.text import bytes_text

    found = report.estimate
    assert found is not None  # noqa: S101 - a dry run has one
    unknown = "unknown: no job of this model has finished yet"
    hours = unknown if found.device_hours is None else f"{found.device_hours:.2f} h"
    size = unknown if found.storage_bytes is None else bytes_text(found.storage_bytes)
    for label, value in {
        "rows": f"{report.rows}, {report.rows - report.refused} valid",
        "jobs": f"{found.jobs}: {found.new} new, {found.duplicates} twice, {found.done} done "
        f"already, {found.known} submitted before",
        "inversions": f"{found.inversions}, shared by {found.shared} more jobs",
        "device time": hours,
        "storage": size,
    }.items():
        out.print(f"{label:<12} {value}", highlight=False)


def _print_json(report: "Report") -> None:
    from dataclasses import asdict

    estimate = report.estimate
    out.print_json(
        data={
            "rows": report.rows,
            "refused": report.refused,
            "passed_over": report.passed_over,
            "created": report.created,
            "known": report.known,
            "revived": report.revived,
            "restored": report.restored,
            "submitted": report.submitted,
            "estimate": None if estimate is None else asdict(estimate),
        }
    )
