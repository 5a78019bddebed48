"""`edict retention`: what is kept how long."""

import json
import re
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from producer.cli.options import Home, examples
from producer.cli.output import out, say, table

if TYPE_CHECKING:
    from jobs.records import Batch
    from producer.client import Client

_DAYS = {"h": 1 / 24, "d": 1.0, "w": 7.0}
_EXPORTED = "exported"

app = typer.Typer(
    help="Say what is kept how long: results, stored inversions, jobs.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog=examples(
        "edict retention set --results 30d --latents 7d --rows 52w",
        "edict retention set --batch fruit --results exported",
        "edict retention list",
    ),
)

OfBatch = Annotated[
    str | None,
    typer.Option("--batch", metavar="NAME", help="Of this batch alone. Default: of all."),
]

AsJson = Annotated[bool, typer.Option("--json", help="Print all policies as a JSON list.")]


@app.command(
    "set",
    epilog=examples(
        "edict retention set --results 30d --latents 7d --rows 52w",
        "edict retention set --batch fruit --results exported",
    ),
)
def set_(
    results: Annotated[
        str | None,
        typer.Option("--results", metavar="PERIOD", help="Images: 12h, 30d, 8w, or exported."),
    ] = None,
    latents: Annotated[
        str | None, typer.Option("--latents", metavar="PERIOD", help="Stored inversions: the same.")
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option("--rows", metavar="PERIOD", help="Jobs, with all they made: the same."),
    ] = None,
    batch: OfBatch = None,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Keep things for a while after a job's end, or until its results were exported.

    A job in several batches is kept as long as the most careful of their policies says.
    """
    from jobs.errors import InvalidInput
    from jobs.retention import What
    from producer.cli.services import open_client

    given = {What.RESULTS: results, What.LATENTS: latents, What.ROWS: rows}
    periods = {what: _days(what, text) for what, text in given.items() if text is not None}
    if not periods:
        raise InvalidInput("retention", "nothing to set; give --results, --latents or --rows")
    with open_client(home) as client:
        of = _batch(client, batch)
        for what, days in periods.items():
            client.store.set_retention(what, days, of)
        _show(client, as_json=as_json)


@app.command("list", epilog=examples("edict retention list --json"))
def list_(
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Show all policies."""
    from producer.cli.services import open_client

    with open_client(home) as client:
        _show(client, as_json=as_json)


@app.command(
    epilog=examples(
        "edict retention clear --latents      [dim]stored inversions are kept for good[/]",
        "edict retention clear --batch fruit --results   [dim]the global policy counts again[/]",
    )
)
def clear(
    results: Annotated[bool, typer.Option("--results")] = False,
    latents: Annotated[bool, typer.Option("--latents")] = False,
    rows: Annotated[bool, typer.Option("--rows")] = False,
    batch: OfBatch = None,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Remove policies."""
    from jobs.errors import InvalidInput
    from jobs.retention import What
    from producer.cli.services import open_client

    given = {What.RESULTS: results, What.LATENTS: latents, What.ROWS: rows}
    if not any(given.values()):
        raise InvalidInput("retention", "nothing to clear; give --results, --latents or --rows")
    with open_client(home) as client:
        of = _batch(client, batch)
        for what in (what for what, wanted in given.items() if wanted):
            client.store.clear_retention(what, of)
        _show(client, as_json=as_json)


def _days(what: str, text: str) -> float | None:
    """Days of a period; None for "exported".

    Raises:
        InvalidInput: it is neither.
    """
    from jobs.errors import InvalidInput

    if text == _EXPORTED:
        return None
    found = re.fullmatch(r"(\d{1,6})([hdw])", text)
    if found is None:
        raise InvalidInput(what, f"{text!r} is no period; write 12h, 30d, 8w or exported")
    return int(found[1]) * _DAYS[found[2]]


def _batch(client: "Client", name: str | None) -> "Batch | None":
    return None if name is None else client.store.batch(name)


def _show(client: "Client", *, as_json: bool) -> None:
    policies = client.store.retentions()
    if as_json:
        out.print(json.dumps([vars(each) for each in policies]), highlight=False, soft_wrap=True)
        return
    if not policies:
        say("there is no policy: everything is kept")
        return
    shown = table("batch", "what", "kept")
    for each in policies:
        kept = "until exported" if each.days is None else f"{each.days:g} days"
        shown.add_row(escape(each.batch or "(all others)"), each.what, kept)
    out.print(shown)
