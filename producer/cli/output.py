"""Where the command line writes: what was asked for to standard output, all else to standard error.

Text that people typed (prompts, paths, error messages) is never read as markup.
"""

import json
import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

WIDE = 240
"""Columns where nobody looks: a file or a pipe must get whole ids, not those cut to a screen."""

out = Console(width=None if sys.stdout.isatty() else WIDE)
err = Console(width=None if sys.stderr.isatty() else WIDE, stderr=True)

COLOURS = {
    "pending": "dim",
    "queued": "dim",
    "running": "cyan",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
}


def say(message: str) -> None:
    """Tell the user what is going on; markup counts."""
    err.print(message, highlight=False, soft_wrap=True)


def complain(message: str) -> None:
    """Tell the user what is wrong."""
    err.print(f"[bold red]error[/] {escape(message)}", highlight=False, soft_wrap=True)


def print_data(data: object) -> None:
    """What `--json` asks for: one document, in colours on a screen. Times and ids become texts."""
    if sys.stdout.isatty():
        out.print_json(data=data, default=str)
        return
    # Rich holds a span for each word, which for thousands of jobs are gigabytes.
    for piece in json.JSONEncoder(ensure_ascii=False, indent=2, default=str).iterencode(data):
        sys.stdout.write(piece)
    sys.stdout.write("\n")


def table(*columns: str, title: str | None = None) -> Table:
    """A table without a frame; cells are text, not markup (see `cell`)."""
    made = Table(*columns, box=None, title=title, title_justify="left", pad_edge=False)
    made.header_style = "bold"
    return made


def state_cell(state: str, *, paused: bool = False) -> str:
    """A job's state in its colour, and whether a pause holds it there."""
    held = " [yellow](paused)[/]" if paused and state == "pending" else ""
    return f"[{COLOURS[state]}]{state}[/]{held}"
