"""Where a comparison writes: results to standard output, all else to standard error."""

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from edict_engine.quality.comparison import Failure, Method
from edict_engine.quality.rate import Rate
from edict_engine.quality.records import EditRow, ReconstructionRow, as_json

#: Columns where nobody looks: a file or a pipe gets whole lines.
WIDE = 240

out = Console(width=None if sys.stdout.isatty() else WIDE)
err = Console(width=None if sys.stderr.isatty() else WIDE, stderr=True)

Row = ReconstructionRow | EditRow
Columns = Sequence[tuple[str, str, str]]

#: Heading, field and format of each column.
RECONSTRUCTION: Columns = (
    ("method", "method", "s"),
    ("images", "images", "d"),
    ("MSE", "mse", ".6f"),
    ("PSNR dB", "psnr", ".2f"),
    ("SSIM", "ssim", ".4f"),
    ("LPIPS", "lpips", ".4f"),
    ("exact", "exact", ".0%"),
    ("latent error", "max_error", ".3g"),
    ("calls", "network_calls", "d"),
    ("s/image", "seconds_per_image", ".2f"),
)
EDITS: Columns = (
    ("method", "method", "s"),
    ("images", "images", "d"),
    ("PSNR outside dB", "psnr_outside", ".2f"),
    ("structure distance", "structure_distance", ".4f"),
    ("CLIP", "clip", ".4f"),
    ("obeyed", "obeyed", ""),
    ("colours", "colours", ""),
    ("styles", "styles", ""),
    ("calls", "network_calls", "d"),
    ("s/image", "seconds_per_image", ".2f"),
)


def show(columns: Columns, rows: Sequence[Row], notes: Mapping[str, str]) -> None:
    """Print a table; `notes` says of absent columns, by field, why they are absent."""
    shown = [column for column in columns if column[1] not in notes]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, field, _ in shown:
        table.add_column(heading, justify="left" if field == "method" else "right")
    for row in rows:
        table.add_row(*(cell(getattr(row, field), form) for _, field, form in shown))
    out.print(table)
    headings = {field: heading for heading, field, _ in columns}
    for field, why in notes.items():
        say(f"no {headings[field]}: {why}")


def cell(value: Any, form: str) -> str:
    """A value as the table shows it; "-" for what could not be measured."""
    if value is None or (isinstance(value, Rate) and not value.trials):
        return "-"
    return "∞" if value == math.inf else format(value, form) if form else str(value)


def show_json(
    settings: Mapping[str, Any],
    rows: Sequence[Row],
    failures: Sequence[Failure],
    notes: Mapping[str, str],
) -> None:
    """Print one JSON object."""
    content = {
        "settings": dict(settings),
        "rows": [as_json(row) for row in rows],
        "failures": [
            {"name": one.name, "method": one.method, "message": one.message} for one in failures
        ],
        "absent": dict(notes),
    }
    sys.stdout.write(json.dumps(content, allow_nan=False, indent=2) + "\n")


def say(message: str) -> None:
    """Tell the user what is going on; nothing in it is markup."""
    err.print(escape(message), highlight=False, soft_wrap=True)


def complain(message: str) -> None:
    """Tell the user what is wrong."""
    err.print(f"[bold red]error[/] {escape(message)}", highlight=False, soft_wrap=True)


def refuse(failures: Sequence[Failure]) -> None:
    """Name what could not be done."""
    for one in failures:
        what = f"failed[/] {escape(one.method)}: " if one.method else "refused[/] "
        line = f"[red]{what}{escape(one.name)}: {escape(one.message)}"
        err.print(line, highlight=False, soft_wrap=True)


class Bars:
    """A bar for each method."""

    def __init__(self, progress: Progress, methods: Sequence[Method], images: int) -> None:
        self._progress = progress
        self._tasks = {
            method.name: progress.add_task(method.name, total=images) for method in methods
        }

    def tick(self, method: Method) -> None:
        """Count one image."""
        self._progress.advance(self._tasks[method.name])


@contextmanager
def bars(methods: Sequence[Method], images: int) -> Iterator[Bars]:
    """Draw progress while the context lasts, where somebody looks."""
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        yield Bars(progress, methods, images)
