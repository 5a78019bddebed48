"""Webhooks: who wants to know, what is to be sent, and what became of it."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Update,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from jobs.ids import new_id
from jobs.states import ENDED, LIVE
from jobs.store.announcing import deliver_ends, new_delivery
from jobs.store.base import StorePart
from jobs.tables import batch_jobs, batches, jobs, webhook_deliveries, webhooks
from jobs.webhooks import BATCH_ENDED, Delivery, DeliveryState

SUBSCRIBE_CHUNK = 500
_ERROR_CHARACTERS = 1_000


class Telling(StorePart):
    """Subscriptions to ends, and the deliveries that they lead to."""

    def subscribe_to_jobs(self, job_ids: Sequence[UUID], url: str) -> None:
        """Have each job's end told to `url`; of one that has ended already, at once."""
        for start in range(0, len(job_ids), SUBSCRIBE_CHUNK):
            with self._engine.begin() as connection:
                self._subscribe(connection, job_ids[start : start + SUBSCRIBE_CHUNK], url)

    def _subscribe(self, connection: Connection, job_ids: Sequence[UUID], url: str) -> None:
        # Locked before their states are read: a job that ends meanwhile either sees the
        # subscription, or is seen here to have ended.
        rows = connection.execute(
            select(jobs.c.id, jobs.c.state)
            .where(jobs.c.id.in_(job_ids))
            .order_by(jobs.c.id)
            .with_for_update(key_share=True)
        ).all()
        self._add(connection, [{"job_id": row.id, "url": url, "told": True} for row in rows])
        ended = [(row.id, url) for row in rows if row.state in ENDED]
        deliver_ends(connection, ended, self._clock())

    def subscribe_to_batch(self, batch_id: UUID, url: str) -> None:
        """Have the batch's end told to `url`: whenever the last of its jobs that live has ended."""
        with self._engine.begin() as connection:
            self._add(connection, [{"batch_id": batch_id, "url": url, "told": False}])
            connection.execute(
                update(webhooks)
                .where(webhooks.c.batch_id == batch_id, webhooks.c.url == url)
                .values(told=False)
            )

    def _add(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
        now = self._clock()
        values = [{"id": new_id(), "created_at": now, **row} for row in rows]
        if values:
            connection.execute(self._insert(webhooks).on_conflict_do_nothing(), values)

    def tell_ended_batches(self) -> int:
        """Write deliveries for batches none of whose jobs lives any more; says how many.

        Not done where the last job ends: two that end at once would have to wait for each other to
        know which is the last. A job that ends after the batch was told has it told again.
        """
        members = (
            select(1)
            .select_from(batch_jobs.join(jobs))
            .where(batch_jobs.c.batch_id == webhooks.c.batch_id)
        )
        open_ones = (
            select(webhooks.c.id, webhooks.c.batch_id, webhooks.c.url, batches.c.name)
            .join(batches, batches.c.id == webhooks.c.batch_id)
            .where(
                webhooks.c.told.is_(False),
                exists(members),
                ~exists(members.where(jobs.c.state.in_(LIVE))),
            )
            .order_by(webhooks.c.id)
            .with_for_update(of=webhooks, skip_locked=True)
        )
        with self._engine.begin() as connection:
            rows = connection.execute(open_ones).all()
            if rows:
                values = [self._end_of_batch(connection, *row[1:]) for row in rows]
                connection.execute(insert(webhook_deliveries), values)
                told = webhooks.c.id.in_([row.id for row in rows])
                connection.execute(update(webhooks).where(told).values(told=True))
        return len(rows)

    def _end_of_batch(
        self, connection: Connection, batch_id: UUID, url: str, name: str | None
    ) -> dict[str, Any]:
        statement = (
            select(jobs.c.state, func.count().label("number"))
            .select_from(batch_jobs.join(jobs))
            .where(batch_jobs.c.batch_id == batch_id)
            .group_by(jobs.c.state)
        )
        counts = {row.state: row.number for row in connection.execute(statement)}
        data = {
            "id": str(batch_id),
            "name": name,
            "jobs": {state.value: counts.get(state.value, 0) for state in ENDED},
        }
        return new_delivery(BATCH_ENDED, url, data, self._clock(), batch_id=batch_id)

    def take_deliveries(self, limit: int, *, patience: float) -> list[Delivery]:
        """Take due deliveries to send them now, the longest due first.

        What the caller does not report within `patience` seconds, since it died, is due again.
        """
        now = self._clock()
        due = (
            select(webhook_deliveries.c.id)
            .where(
                webhook_deliveries.c.state == DeliveryState.PENDING,
                webhook_deliveries.c.due_at <= now,
            )
            .order_by(webhook_deliveries.c.due_at, webhook_deliveries.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("due")
        )
        taken = (
            update(webhook_deliveries)
            .where(webhook_deliveries.c.id.in_(select(due.c.id)))
            .values(
                attempts=webhook_deliveries.c.attempts + 1,
                due_at=now + timedelta(seconds=patience),
            )
            .returning(*webhook_deliveries.c)
        )
        with self._engine.begin() as connection:
            rows = connection.execute(taken).all()
        return sorted((_delivery(row) for row in rows), key=lambda each: each.id)

    def record_delivered(self, delivery: Delivery, status: int) -> bool:
        """Write that the receiver took it; false where it was sent again since."""
        return self._record(
            delivery,
            state=DeliveryState.DELIVERED,
            delivered_at=self._clock(),
            response_status=status,
            error=None,
        )

    def record_undelivered(
        self, delivery: Delivery, error: str, *, status: int | None, retry_in: float | None
    ) -> bool:
        """Write why it was not taken; `retry_in` seconds until the next try, None: never."""
        values: dict[str, Any] = {"state": DeliveryState.FAILED}
        if retry_in is not None:
            values = {"due_at": self._clock() + timedelta(seconds=retry_in)}
        return self._record(
            delivery, response_status=status, error=error[:_ERROR_CHARACTERS], **values
        )

    def _record(self, delivery: Delivery, **values: Any) -> bool:
        statement = (
            update(webhook_deliveries)
            .where(
                webhook_deliveries.c.id == delivery.id,
                webhook_deliveries.c.state == DeliveryState.PENDING,
                webhook_deliveries.c.attempts == delivery.attempts,
            )
            .values(**values)
        )
        return self._count(statement) == 1

    def deliveries(
        self,
        *,
        job_id: UUID | None = None,
        batch_id: UUID | None = None,
        states: Sequence[DeliveryState] = tuple(DeliveryState),
        limit: int = 100,
    ) -> list[Delivery]:
        """Deliveries about a job, about a batch and the jobs in it, or all; newest first."""
        which: list[ColumnElement[bool]] = [webhook_deliveries.c.state.in_(states)]
        if job_id is not None:
            which.append(webhook_deliveries.c.job_id == job_id)
        if batch_id is not None:
            which.append(_about_batch(batch_id))
        statement = (
            select(webhook_deliveries)
            .where(*which)
            .order_by(webhook_deliveries.c.id.desc())
            .limit(limit)
        )
        with self._reader.connect() as connection:
            return [_delivery(row) for row in connection.execute(statement)]

    def resend(self, delivery_ids: Sequence[UUID]) -> int:
        """Send these again now, whatever became of them; says how many there are."""
        return sum(
            self._resend(webhook_deliveries.c.id.in_(delivery_ids[at : at + SUBSCRIBE_CHUNK]))
            for at in range(0, len(delivery_ids), SUBSCRIBE_CHUNK)
        )

    def resend_failed(self) -> int:
        """Send all again that were given up; says how many."""
        return self._resend(webhook_deliveries.c.state == DeliveryState.FAILED)

    def _resend(self, which: ColumnElement[bool]) -> int:
        return self._count(
            update(webhook_deliveries)
            .where(which)
            .values(
                state=DeliveryState.PENDING, attempts=0, due_at=self._clock(), delivered_at=None
            )
        )

    def _count(self, statement: Update) -> int:
        with self._engine.begin() as connection:
            return len(connection.execute(statement.returning(webhook_deliveries.c.id)).all())


def _about_batch(batch_id: UUID) -> ColumnElement[bool]:
    members = select(batch_jobs.c.job_id).where(batch_jobs.c.batch_id == batch_id)
    return or_(webhook_deliveries.c.batch_id == batch_id, webhook_deliveries.c.job_id.in_(members))


def _delivery(row: Row[Any]) -> Delivery:
    values = row._asdict()
    return Delivery(**{**values, "state": DeliveryState(values["state"])})
