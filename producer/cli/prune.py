"""`edict prune`: delete what the retention policies no longer keep."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from producer.cli.options import Home, OneObject, examples
from producer.cli.output import out, say

if TYPE_CHECKING:
    from jobs.retention import Amount, Plan

EXAMPLES = examples(
    "edict prune --dry-run                [dim]what would go[/]",
    "edict prune",
    "edict retention set --results 30d --latents 7d      [dim]says what is kept how long[/]",
)


def prune(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and delete nothing.")
    ] = False,
    as_json: OneObject = False,
    home: Home = None,
) -> None:
    """Delete results, stored inversions and jobs whose time is up, as `edict retention` says.

    `edict control` does this every hour. Nothing that another job still refers to is deleted.
    """
    from threading import Event

    from producer.cli.services import open_client
    from producer.retention import Pruner, plan

    with open_client(home) as client:
        if not client.store.retentions():
            say("there is no policy, so everything is kept: `edict retention set --help`")
        if dry_run:
            found = plan(client.store)
            _print(_as_plain(found), _sentence(found), as_json=as_json)
            return
        done = Pruner(client.store, client.objects, Event()).run()
    told = (
        f"{done.results} jobs lost their results, {done.latents} their stored inversions; "
        f"{done.rows} jobs deleted, and {done.objects} objects"
    )
    _print(vars(done), told, as_json=as_json)


def _print(plain: dict[str, Any], told: str, *, as_json: bool) -> None:
    out.print(json.dumps(plain) if as_json else told, highlight=False, soft_wrap=True)


def _as_plain(found: "Plan") -> dict[str, Any]:
    return vars(found) | {"results": vars(found.results), "latents": vars(found.latents)}


def _sentence(found: "Plan") -> str:
    shared = f"; {found.shared_latents} are kept for other jobs" if found.shared_latents else ""
    return (
        f"would delete {_amount(found.results)} of results, {_amount(found.latents)} of stored "
        f"inversions{shared}, {found.rows} jobs"
    )


def _amount(amount: "Amount") -> str:
    from producer.text import bytes_text

    return f"{amount.objects} objects ({bytes_text(amount.bytes)})"
