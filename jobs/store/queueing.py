"""Announcing work: from pending to queued, and back where a message was lost."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, select

from jobs.records import DueJob
from jobs.states import State
from jobs.store.base import StorePart, change, change_rows, chunks
from jobs.tables import jobs


class Queueing(StorePart):
    """What the dispatcher and the reconciler do."""

    def take_due(self, limit: int) -> list[DueJob]:
        """Move due jobs from pending to queued, most urgent and oldest first.

        The caller sends their messages now. If it dies first, `requeue_unclaimed` finds them.
        """
        now = self._clock()
        due = (
            select(jobs.c.id)
            .where(jobs.c.state == State.PENDING, jobs.c.due_at <= now)
            .order_by(jobs.c.priority.desc(), jobs.c.id)
            .limit(limit)
        )
        taken = change_rows(due, skip_locked=True, state=State.QUEUED, queued_at=now).returning(
            jobs.c.id,
            jobs.c.model,
            jobs.c.inversion_digest,
            jobs.c.losses,
            jobs.c.priority,
        )
        with self._engine.begin() as connection:
            rows = connection.execute(taken).all()
        rows = sorted(rows, key=lambda row: (-row.priority, row.id))
        return [DueJob(row.id, row.model, row.inversion_digest, row.losses) for row in rows]

    def unqueue(self, job_ids: Sequence[UUID]) -> int:
        """Put queued jobs back to pending: their message could not be sent."""
        return sum(self._requeue(jobs.c.id.in_(chunk)) for chunk in chunks(job_ids))

    def requeue_unclaimed(self, model: str, *, older_than: float) -> int:
        """Put a model's jobs that were queued over `older_than` seconds ago back to pending."""
        before = self._clock() - timedelta(seconds=older_than)
        return self._requeue(jobs.c.model == model, jobs.c.queued_at < before)

    def _requeue(self, *which: ColumnElement[bool]) -> int:
        return self._change(change(jobs.c.state == State.QUEUED, *which, state=State.PENDING))

    def models_queued(self) -> list[str]:
        """The models that have jobs in state queued."""
        statement = select(jobs.c.model).where(jobs.c.state == State.QUEUED).distinct()
        with self._reader.connect() as connection:
            return list(connection.scalars(statement))
