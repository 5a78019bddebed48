"""Holding a batch back, and letting it go.

A pause is a wish on the batch's row first, one small statement, and then on its jobs' rows, in
pieces. The process that wished may die on the way: `settle_batches`, which the control process
calls, goes on. Pieces of all batches take turns (a job may be in several), and a submission to a
batch that is paused waits for its turn too; no job can then slip between a pause and another's end.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Exists, Select, case, exists, func, select, update

from jobs.errors import NotFound
from jobs.states import State
from jobs.store.base import StorePart, change_rows, chunks
from jobs.tables import batch_jobs, batches, jobs

PAUSE_CHUNK = 5_000
"""Rows a transaction: heartbeats of running jobs wait for no longer than one takes."""

_TURNS = 0x6564696375
"""The lock by which pieces take turns; the one before it is the migrations'."""
_NO_ID = UUID(int=0)


class Pausing(StorePart):
    """Pause and resume."""

    def pause_batch(self, batch_id: UUID) -> None:
        """Start none of a batch's jobs, now or in later submissions; running ones go on.

        Raises:
            NotFound: there is no such batch.
        """
        self._wish(batch_id, self._clock())

    def resume_batch(self, batch_id: UUID) -> None:
        """Let a paused batch's jobs run, but those that another paused batch has too.

        Raises:
            NotFound: there is no such batch.
        """
        self._wish(batch_id, None)

    def _wish(self, batch_id: UUID, paused_at: datetime | None) -> None:
        statement = (
            update(batches)
            .where(batches.c.id == batch_id)
            .values(paused_at=paused_at, settled=False)
            .returning(batches.c.id)
        )
        with self._engine.begin() as connection:
            if not connection.execute(statement).all():
                raise NotFound(f"there is no batch {batch_id}")
        self._settle(batch_id)

    def settle_batches(self) -> int:
        """Finish the pauses and resumptions that were broken off; says how many."""
        statement = select(batches.c.id).where(batches.c.settled.is_(False))
        with self._reader.connect() as connection:
            unsettled = list(connection.scalars(statement))
        for batch_id in unsettled:
            self._settle(batch_id)
        return len(unsettled)

    def _settle(self, batch_id: UUID) -> None:
        after: UUID | None = _NO_ID
        while after is not None:
            with self._engine.begin() as connection:
                after = self._settle_piece(connection, batch_id, after)

    def _settle_piece(self, connection: Connection, batch_id: UUID, after: UUID) -> UUID | None:
        """Bring a piece of a batch's jobs in line; returns where to go on, None at the end."""
        wish = select(batches.c.paused_at.is_not(None)).where(batches.c.id == batch_id)
        # The batch first, then the turn, then jobs: in `_enter` as here, or all wait in a circle.
        paused = connection.scalar(wish.with_for_update(key_share=True))
        if paused is None:
            return None  # the batch was deleted
        _take_turn(connection)
        rows = _members(batch_id, after)
        if paused:
            unended = rows.where(jobs.c.state != State.SUCCEEDED)
            changed = _changed(connection, unended, **_held())
        else:
            free = rows.where(jobs.c.paused, ~_held_by_any())
            changed = _changed(connection, free, paused=False)
        if len(changed) == PAUSE_CHUNK:
            return max(changed)
        connection.execute(update(batches).where(batches.c.id == batch_id).values(settled=True))
        return None

    @staticmethod
    def _enter(connection: Connection, batch_id: UUID) -> bool:
        """Begin to add jobs to a batch; says whether it is paused, which it stays until the end."""
        wish = select(batches.c.paused_at).where(batches.c.id == batch_id)
        # Whoever pauses or resumes it waits until the new members are there to be seen.
        paused = connection.scalar(wish.with_for_update(read=True)) is not None
        if paused:
            _take_turn(connection)
        return paused

    @staticmethod
    def _hold(connection: Connection, job_ids: list[UUID]) -> None:
        """Hold new members of a paused batch back."""
        for chunk in chunks(sorted(job_ids)):
            rows = select(jobs.c.id).where(jobs.c.id.in_(chunk), jobs.c.state != State.SUCCEEDED)
            _changed(connection, rows.order_by(jobs.c.id), **_held())


def _take_turn(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":  # SQLite has one writer at a time anyway
        connection.execute(select(func.pg_advisory_xact_lock(_TURNS)))


def _held() -> dict[str, Any]:
    unannounced = case((jobs.c.state == State.QUEUED, State.PENDING), else_=jobs.c.state)
    return {"paused": True, "state": unannounced}


def _held_by_any() -> Exists:
    return exists(
        select(batches.c.id)
        .join(batch_jobs, batch_jobs.c.batch_id == batches.c.id)
        .where(batch_jobs.c.job_id == jobs.c.id, batches.c.paused_at.is_not(None))
        .correlate(jobs)
    )


def _members(batch_id: UUID, after: UUID) -> Select[tuple[UUID]]:
    """The next of a batch's jobs, whatever their rows say of a pause."""
    return (
        select(jobs.c.id)
        .join(batch_jobs, batch_jobs.c.job_id == jobs.c.id)
        .where(batch_jobs.c.batch_id == batch_id, batch_jobs.c.job_id > after)
        .order_by(jobs.c.id)
        .limit(PAUSE_CHUNK)
    )


def _changed(connection: Connection, rows: Select[tuple[UUID]], **values: Any) -> list[UUID]:
    return list(connection.scalars(change_rows(rows, **values).returning(jobs.c.id)))
