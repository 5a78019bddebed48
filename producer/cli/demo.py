"""`edict demo`: the whole pipeline on this machine, and a gallery to open."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from producer.cli.options import Devices, Json, device_names, examples
from producer.cli.output import err, out, print_data, say
from producer.cli.signals import die_with_parent, interrupt_on_sigterm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from producer.demo.manifest import Item
    from producer.demo.report import Outcome
    from producer.embedded.stack import EmbeddedStack

EXAMPLES = examples(
    "edict demo",
    "edict demo --images ~/Pictures/fruit --out fruit-demo",
    "edict demo --devices 0,1             [dim]on GPUs[/]",
)
TITLE = "Exact diffusion inversion: the demo"


def demo(
    folder: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Where the gallery goes.")
    ] = Path("demo-output"),
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="FOLDER", help="Your own photographs instead of ours."),
    ] = None,
    devices: Devices = "cpu,cpu",
    home: Annotated[
        Path | None,
        typer.Option("--home", metavar="FOLDER", help="The stack's folder. Default: OUT/.stack."),
    ] = None,
    json: Json = False,
) -> None:
    """Run the whole pipeline: servers, workers, edits of real photographs, a gallery.

    Ends with 0 only if every job succeeded. Run again, it does only what is not done yet.
    """
    import logging

    from jobs.logs import configure_logging
    from producer.demo.manifest import bundled, from_folder
    from producer.embedded.stack import EmbeddedStack

    die_with_parent()
    interrupt_on_sigterm()
    configure_logging(logging.WARNING)
    items = bundled() if images is None else from_folder(images)
    batch = "demo" if images is None else f"demo {images.resolve()}"
    names = device_names(devices)
    # The manifest is written for this model, whatever else the environment serves.
    with EmbeddedStack(home or folder / ".stack", names, ["demo"]) as stack:
        succeeded = _run(stack, len(names), batch, items, folder, json=json)
    raise typer.Exit(0 if succeeded else 1)


def _run(
    stack: "EmbeddedStack",
    workers: int,
    batch: str,
    items: "Sequence[Item]",
    folder: Path,
    *,
    json: bool,
) -> bool:
    from producer.demo.run import Course

    outcome = Course(stack, workers, err, batch[-200:]).run(items)
    # One line for an image, however many jobs it was to have.
    for refusal in dict.fromkeys(each.without_row for each in outcome.refused):
        say(f"[red]refused[/] {escape(refusal)}")
    for job in outcome.failed:
        say(f"[red]{job.state}[/] {job.id} {escape(job.error_message or '')}")
    page = _write(stack, outcome, items, folder) if outcome.jobs else None
    if json:
        print_data(_plain(outcome, page))
    elif page is not None:
        _show(stack, outcome, page)
    return outcome.succeeded


def _plain(outcome: "Outcome", page: Path | None) -> dict[str, Any]:
    """What came of it, as JSON data."""
    return {
        "jobs": len(outcome.jobs),
        "succeeded": outcome.succeeded,
        "failed": [str(job.id) for job in outcome.failed],
        "refused": [str(each) for each in outcome.refused],
        "seconds": outcome.seconds,
        "gallery": None if page is None else str(page.resolve()),
    }


def _write(
    stack: "EmbeddedStack", outcome: "Outcome", items: "Sequence[Item]", folder: Path
) -> Path:
    """Write the gallery and say where it is."""
    from jobs.keys import sha256
    from jobs.objects import ObjectStore
    from producer.demo.report import summary
    from producer.demo.run import gallery_path, stack_settings
    from producer.gallery import Credit, write_gallery

    settings = stack_settings(stack)
    objects = ObjectStore.from_settings(settings)
    folder.mkdir(parents=True, exist_ok=True)
    page = gallery_path(folder)
    origins = {
        sha256(item.path.read_bytes()): Credit(item.title, item.origin)
        for item in items
        if item.path.is_file()
    }
    write_gallery(
        page,
        outcome.jobs,
        objects,
        summary(outcome, TITLE),
        origins=origins,
        max_source_bytes=settings.max_source_bytes,
    )
    return page


def _show(stack: "EmbeddedStack", outcome: "Outcome", page: Path) -> None:
    from jobs.objects import ObjectStore
    from producer.demo.report import example_table, states_table
    from producer.demo.run import stack_settings

    objects = ObjectStore.from_settings(stack_settings(stack))
    out.print(states_table(outcome.jobs))
    out.print()
    out.print(example_table(outcome.jobs, objects))
    out.print()
    _close(outcome, page)


def _close(outcome: "Outcome", page: Path) -> None:
    from producer.text import seconds_text

    count = len(outcome.jobs)
    if outcome.seconds is None:
        out.print(f"all {count} jobs were done before; nothing recomputed", highlight=False)
    else:
        out.print(f"{count} jobs in {seconds_text(outcome.seconds)}", highlight=False)
    out.print(f"open [bold]{escape(str(page.resolve()))}[/]", highlight=False, soft_wrap=True)
