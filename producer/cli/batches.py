"""`edict batches`: what there is, newest first."""

from typing import Annotated

import typer
from rich.markup import escape

from producer.cli.options import Home, examples
from producer.cli.output import out, table

EXAMPLES = examples("edict batches", "edict batches --limit 100 --json")


def batches(
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="The latest N.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    home: Home = None,
) -> None:
    """List batches, and how many of their jobs are in each state."""
    from jobs.states import State
    from producer.cli.services import open_client

    with open_client(home) as client:
        found = client.store.batches(limit)
    if json:
        out.print_json(
            data=[
                {
                    "id": str(each.batch.id),
                    "name": each.batch.name,
                    "created_at": each.batch.created_at.isoformat(),
                    "flagged": each.flagged,
                    "counts": {state.value: count for state, count in each.counts.items()},
                }
                for each in found
            ]
        )
        return
    shown = table("batch", "made", "jobs", *(state.value for state in State), "flagged")
    for each in found:
        made = each.batch.created_at.strftime("%Y-%m-%d %H:%M UTC")
        counts = [str(count) if count else "" for count in each.counts.values()]
        total = str(sum(each.counts.values()))
        shown.add_row(
            escape(each.batch.name or str(each.batch.id)),
            made,
            total,
            *counts,
            str(each.flagged or ""),
        )
    out.print(shown if found else "there is no batch yet; `edict submit` and `edict bulk` make one")
