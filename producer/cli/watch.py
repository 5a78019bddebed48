"""`edict watch`: live progress of a batch, or of everything."""

from typing import TYPE_CHECKING
from uuid import UUID

import typer
from rich.console import Console
from rich.markup import escape

from producer.cli.options import AnyBatch, Home, Json, examples
from producer.cli.output import err, out, print_data, say

if TYPE_CHECKING:
    from jobs.records import Batch
    from producer.client import Client
    from producer.progress import Counts

EXAMPLES = examples(
    "edict watch fruit",
    "edict watch                          [dim]everything there is[/]",
    "edict watch fruit && edict results fruit --to fruit-edited",
)
SHOWN_FAILURES = 10


def watch(
    batch: AnyBatch = None,
    json: Json = False,
    home: Home = None,
) -> None:
    """Follow jobs until all have ended. Ends with 0 only if all of them succeeded."""
    from producer.cli.services import open_client

    with open_client(home) as client:
        found = None if batch is None else client.store.batch(batch)
        succeeded = follow_batch(client, found, json=json)
    raise typer.Exit(0 if succeeded else 1)


def follow_batch(
    client: "Client", batch: "Batch | None", *, json: bool = False, shown: Console = out
) -> bool:
    """Follow a batch (None: everything) to its end; says whether all succeeded."""
    from producer.progress import all_succeeded, counts_text, follow

    batch_id = None if batch is None else batch.id
    ended = follow(
        lambda: client.store.counts(batch_id), err, lambda now: _note(client, batch_id, now)
    )
    if json:
        print_data({state.value: count for state, count in ended.items()})
    else:
        shown.print(counts_text(ended), highlight=False)
    if batch_id is not None and (flagged := client.store.flagged_of(batch_id)):
        say(f"[yellow]flagged[/] {flagged} by the batch's gate: `edict gate`, `edict export`")
    if not all_succeeded(ended):
        _tell_failures(client, batch_id, ended)
    return all_succeeded(ended)


def _note(client: "Client", batch_id: "UUID | None", counts: "Counts") -> str:
    """What the user must know meanwhile: a pause, or who works and what has failed so far."""
    from jobs.states import State

    if batch_id is not None and client.store.batch(str(batch_id)).paused_at is not None:
        return "the batch is paused; `edict resume` lets it go on"
    parts = [_workers_text(client)]
    if batch_id is not None and counts[State.SUCCEEDED]:
        flagged = client.store.flagged_of(batch_id)
        parts += [f"{flagged} flagged"] if flagged else []
    if batch_id is not None and counts[State.FAILED]:
        by_code = client.store.failures_of(batch_id)
        parts += [f"{count} {code}" for code, count in by_code.items()]
    return ", ".join(parts)


def _workers_text(client: "Client") -> str:
    """Where nobody works, that is what the user must know; else how busy they are."""
    alive = client.store.live_workers(seen_within=client.settings.lease_seconds)
    if not alive:
        return "no worker is alive; start one with `edict worker`"
    lanes = sum(worker.lanes for worker in alive)
    busy = client.store.busy_lanes([worker.name for worker in alive])
    workers = f"{len(alive)} worker{'s' if len(alive) > 1 else ''}"
    return f"{workers}, {busy} of {lanes} lanes busy ({busy / lanes:.0%})"


def _tell_failures(client: "Client", batch_id: "UUID | None", counts: "Counts") -> None:
    from jobs.filters import JobFilter
    from jobs.states import State

    if batch_id is None:
        return
    by_code = client.store.failures_of(batch_id)
    say("failed: " + ", ".join(f"{count} {escape(code)}" for code, count in by_code.items()))
    which = JobFilter(batch=batch_id, states=(State.FAILED,))
    for job in client.failures(which, limit=SHOWN_FAILURES):
        say(
            f"[red]failed[/] {job.id} {escape(job.error_code or '')}: "
            f"{escape(job.error_message or '')}"
        )
    if counts[State.FAILED] > SHOWN_FAILURES:
        say(f"… and {counts[State.FAILED] - SHOWN_FAILURES} more: `edict failures {batch_id}`")
