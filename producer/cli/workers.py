"""`edict workers`: who works, on what device, and at what."""

import json as js
import socket
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from producer.cli.options import Home, Json, examples
from producer.cli.output import out, table
from producer.text import seconds_text

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from jobs.records import Job, Worker

EXAMPLES = examples(
    "edict workers",
    "edict workers --here                 [dim]for health checks[/]",
    "edict workers --json | jq -r '.[] | select(.alive | not) | .name'",
)


def workers(
    json: Json = False,
    here: Annotated[
        bool,
        typer.Option(
            "--here",
            help="Print nothing, and end with 1 if no worker of this host lives. While the "
            "database is away nobody can tell: that ends with 0.",
        ),
    ] = False,
    home: Home = None,
) -> None:
    """List the worker processes: device, model, lanes, last heartbeat, and what they run.

    One that was killed stays in the list, silent; its jobs were given to others.
    """
    if here:
        raise typer.Exit(0 if _lives_here(home) else 1)
    from jobs.filters import JobFilter
    from jobs.states import State
    from jobs.store.base import utc_now
    from producer.cli.services import open_client

    with open_client(home) as client:
        found = client.store.workers()
        running = client.store.find(JobFilter(states=(State.RUNNING,)))
    now, lease = utc_now(), client.settings.lease_seconds
    rows = [
        (
            worker,
            [job for job in running if job.worker == worker.name],
            (now - worker.seen_at).total_seconds() <= lease,
        )
        for worker in found
    ]
    if json:
        _print_json(rows)
    else:
        _print_table(rows, now)


def _lives_here(home: "Path | None") -> bool:
    from jobs.errors import ServiceUnavailable
    from producer.cli.services import open_client

    try:
        with open_client(home) as client:
            lease = client.settings.lease_seconds
            alive = client.store.live_workers(seen_within=lease)
    except ServiceUnavailable:
        return True
    return any(worker.host == socket.gethostname() for worker in alive)


def _print_json(rows: "Sequence[tuple[Worker, list[Job], bool]]") -> None:
    from producer.plain import plain_worker

    out.print_json(
        js.dumps([plain_worker(worker, jobs, alive=alive) for worker, jobs, alive in rows])
    )


def _print_table(rows: "Sequence[tuple[Worker, list[Job], bool]]", now: "datetime") -> None:
    if not rows:
        out.print("no worker is alive; start one: edict worker")
        return
    shown = table("worker", "host", "device", "model", "lanes", "heartbeat", "runs")
    for worker, jobs, alive in rows:
        ago = seconds_text(max((now - worker.seen_at).total_seconds(), 0.0)) + " ago"
        shown.add_row(
            escape(worker.name),
            escape(worker.host),
            escape(worker.device),
            escape(worker.labels[1]),
            str(worker.lanes),
            ago if alive else f"[red]silent[/], {ago}",
            _kinds(jobs) or "nothing",
        )
    out.print(shown)


def _kinds(jobs: "Sequence[Job]") -> str:
    counts = Counter(job.kind for job in jobs)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
