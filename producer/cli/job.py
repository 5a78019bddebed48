"""`edict job`: everything that is known of one job."""

import json as js
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer
from rich.markup import escape

from producer.cli.options import Home, Json, examples
from producer.cli.output import out, state_cell, table
from producer.text import seconds_text

if TYPE_CHECKING:
    from jobs.records import Batch, Job

EXAMPLES = examples(
    "edict job 0199e0c4-5b1e-7c3a-9d2f-3f6f1f1f2a10",
    "edict job 0199e0c4-5b1e-7c3a-9d2f-3f6f1f1f2a10 --json",
)


def job(
    name: Annotated[str, typer.Argument(metavar="JOB", help="Its id.")],
    json: Json = False,
    home: Home = None,
) -> None:
    """Show one job in full: what was asked, what became of it, when, and what it waits for."""
    from jobs.store.base import utc_now
    from producer.cli.services import open_client
    from producer.waiting import why_waiting

    job_id = _id_of(name)
    with open_client(home) as client:
        found = client.store.job(job_id)
        batches = client.store.batches_of(job_id)
        alive = client.store.live_workers(seen_within=client.settings.lease_seconds)
    waits = why_waiting(found, alive, utc_now())
    if json:
        _print_json(found, batches, waits)
    else:
        _print_table(found, batches, waits)


def _id_of(name: str) -> UUID:
    from jobs.errors import InvalidInput

    try:
        return UUID(name)
    except ValueError:
        raise InvalidInput(
            "job", f"{name!r} is no job's id; `edict status BATCH` lists them"
        ) from None


def _print_json(found: "Job", batches: "list[Batch]", waits: str | None) -> None:
    from producer.plain import plain_batch, plain_job

    more = {"batches": [plain_batch(batch) for batch in batches], "waits_for": waits}
    out.print_json(js.dumps({**plain_job(found), **more}))


def _print_table(found: "Job", batches: "list[Batch]", waits: str | None) -> None:
    shown = table("", "")
    shown.show_header = False
    named = ", ".join(batch.name or str(batch.id) for batch in batches)
    rows = [
        ("job", str(found.id)),
        ("kind", found.kind),
        ("state", state_cell(found.state, paused=found.paused)),
        ("waits", escape(waits or "")),
        ("batches", escape(named)),
        ("model", escape(found.model)),
        ("priority", f"{found.priority} ({found.lane})"),
        ("attempts", str(found.attempts)),
        ("worker", escape(found.worker or "")),
        ("progress", "" if found.progress is None else f"{found.progress:.0%}"),
        ("error", escape(found.error_code or "")),
        ("", escape(found.error_message or "")),
        *_times(found),
        ("unreadable", escape(found.unreadable or "")),
        ("spec", _pretty(found.stored_spec)),
        ("result", "" if found.stored_result is None else _pretty(found.stored_result)),
    ]
    for name, value in rows:
        if value:
            shown.add_row(f"[bold]{name}[/]", value)
    out.print(shown)


def _times(found: "Job") -> list[tuple[str, str]]:
    took = "" if found.last_seconds is None else seconds_text(found.last_seconds)
    moments = (
        ("submitted", found.created_at),
        ("due", found.due_at),
        ("queued", found.queued_at),
        ("started", found.started_at),
        ("finished", found.finished_at),
        ("lease until", found.lease_until),
    )
    return [*((name, str(when) if when else "") for name, when in moments), ("took", took)]


def _pretty(data: Any) -> str:
    return escape(js.dumps(data, indent=2, ensure_ascii=False))
