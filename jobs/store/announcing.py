"""What is written besides when jobs end: deliveries to those that want to know of it.

Called inside the transaction that ends the jobs. Without subscriptions it is one look at an index.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, insert, or_, select, update

from jobs.ids import new_id
from jobs.tables import batch_jobs, jobs, webhook_deliveries, webhooks
from jobs.webhooks import DeliveryState

CHUNK = 5_000
"""Ids in one statement, which names each of them twice."""


def announce_ends(connection: Connection, job_ids: Sequence[UUID], now: datetime) -> None:
    """Write deliveries for jobs that have just ended, and have their batches looked at again."""
    for start in range(0, len(job_ids), CHUNK):
        _announce(connection, job_ids[start : start + CHUNK], now)


def _announce(connection: Connection, job_ids: Sequence[UUID], now: datetime) -> None:
    theirs = select(batch_jobs.c.batch_id).where(batch_jobs.c.job_id.in_(job_ids))
    wanted = connection.execute(
        select(webhooks.c.job_id, webhooks.c.batch_id, webhooks.c.url).where(
            or_(webhooks.c.job_id.in_(job_ids), webhooks.c.batch_id.in_(theirs))
        )
    ).all()
    deliver_ends(connection, [(row.job_id, row.url) for row in wanted if row.job_id], now)
    if found := {row.batch_id for row in wanted if row.batch_id}:
        reopen = (
            select(webhooks.c.id)
            .where(webhooks.c.batch_id.in_(found), webhooks.c.told)
            # In one order for all, so that two ends never wait for each other in a circle.
            .order_by(webhooks.c.id)
            .with_for_update()
            .cte("reopen")
        )
        connection.execute(
            update(webhooks).where(webhooks.c.id.in_(select(reopen.c.id))).values(told=False)
        )


def deliver_ends(connection: Connection, wanted: Sequence[tuple[UUID, str]], now: datetime) -> None:
    """Write a delivery for each ended job and URL."""
    if not wanted:
        return
    which = jobs.c.id.in_({job_id for job_id, _ in wanted})
    rows = {row.id: row for row in connection.execute(select(*_TOLD).where(which))}
    values = [
        new_delivery(f"job.{row.state}", url, _job_data(row), now, job_id=row.id)
        for job_id, url in wanted
        for row in [rows[job_id]]
    ]
    connection.execute(insert(webhook_deliveries), values)


def new_delivery(
    event: str,
    url: str,
    data: dict[str, Any],
    now: datetime,
    *,
    job_id: UUID | None = None,
    batch_id: UUID | None = None,
) -> dict[str, Any]:
    """A row to insert; its payload is of the shape that standardwebhooks.com recommends."""
    return {
        "id": new_id(),
        "job_id": job_id,
        "batch_id": batch_id,
        "url": url,
        "event": event,
        "payload": {"type": event, "timestamp": now.isoformat(), "data": data},
        "state": DeliveryState.PENDING,
        "attempts": 0,
        "created_at": now,
        "due_at": now,
    }


_TOLD = [
    jobs.c[name]
    for name in (
        "id", "kind", "model", "state", "created_at", "finished_at", "error_code", "error_message",
        "result",
    )
]  # fmt: skip


def _job_data(row: Row[Any]) -> dict[str, Any]:
    """What a receiver is told of a job: no prompts, which are nobody's but the submitter's."""
    result = row.result or {}
    return {
        "id": str(row.id),
        "kind": row.kind,
        "model": row.model,
        "state": row.state,
        "created_at": row.created_at.isoformat(),
        "finished_at": row.finished_at.isoformat() if row.finished_at else None,
        "error": {"code": row.error_code, "message": row.error_message} if row.error_code else None,
        **{name: result.get(name) for name in ("outputs", "exact", "max_error", "psnr")},
    }
