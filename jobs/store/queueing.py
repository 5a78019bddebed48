"""Announcing work: from pending to queued, and back where a message was lost."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, func, select

from jobs.lanes import INTERACTIVE_PRIORITY, Lane
from jobs.records import DueJob
from jobs.states import State
from jobs.store.base import StorePart, change, change_rows, chunks
from jobs.tables import jobs


class Queueing(StorePart):
    """What the dispatcher and the reconciler do."""

    def take_due(
        self,
        limit: int,
        *,
        model: str | None = None,
        lane: Lane | None = None,
        among: Sequence[UUID] | None = None,
    ) -> list[DueJob]:
        """Move due jobs from pending to queued, most urgent and oldest first.

        Those of one model, of one lane, `among` some (at most `base.IDS_CHUNK`), or any. The
        caller sends their messages now. If it dies first, `requeue_unclaimed` finds them.
        """
        now = self._clock()
        which = [
            jobs.c.state == State.PENDING,
            jobs.c.paused.is_(False),
            jobs.c.due_at <= now,
            *_of(model, lane),
        ]
        if among is not None:
            which.append(jobs.c.id.in_(among))
        due = select(jobs.c.id).where(*which).order_by(jobs.c.priority.desc(), jobs.c.id)
        taken = change_rows(
            due.limit(limit), skip_locked=True, state=State.QUEUED, queued_at=now
        ).returning(
            jobs.c.id,
            jobs.c.model,
            jobs.c.inversion_digest,
            jobs.c.priority,
            jobs.c.queued_at,
            jobs.c.losses,
            jobs.c.traceparent,
        )
        with self._engine.begin() as connection:
            rows = connection.execute(taken).all()
        rows = sorted(rows, key=lambda row: (-row.priority, row.id))
        return [DueJob(*row) for row in rows]

    def unqueue(self, job_ids: Sequence[UUID]) -> int:
        """Put queued jobs back to pending: their message could not be sent."""
        return sum(self._requeue(jobs.c.id.in_(chunk)) for chunk in chunks(job_ids))

    def requeue_unclaimed(
        self,
        model: str,
        *,
        older_than: float,
        lane: Lane | None = None,
        waiting_since: datetime | None = None,
    ) -> int:
        """Put a model's jobs that were queued over `older_than` seconds ago back to pending.

        Only those of one lane, where it is given. Where messages still wait, the first of them
        `waiting_since` then, the seconds count back from there.
        """
        now = self._clock()
        head = now if waiting_since is None else min(now, waiting_since)
        gone = jobs.c.queued_at < head - timedelta(seconds=older_than)
        return self._requeue(*_of(model, lane), gone)

    def _requeue(self, *which: ColumnElement[bool]) -> int:
        return self._change(change(jobs.c.state == State.QUEUED, *which, state=State.PENDING))

    def queued(self, model: str, lane: Lane) -> int:
        """How many jobs of a model's lane are announced and not claimed."""
        statement = select(func.count()).select_from(jobs)
        statement = statement.where(jobs.c.state == State.QUEUED, *_of(model, lane))
        with self._reader.connect() as connection:
            return int(connection.scalar(statement) or 0)

    def models_queued(self) -> list[str]:
        """The models that have jobs in state queued."""
        return self._models(jobs.c.state == State.QUEUED)

    def models_pending(self) -> list[str]:
        """The models that have jobs in state pending, paused ones left out."""
        return self._models(jobs.c.state == State.PENDING, jobs.c.paused.is_(False))

    def _models(self, *which: ColumnElement[bool]) -> list[str]:
        # One look into the index for each; DISTINCT would read a million rows for one name.
        first, found = select(func.min(jobs.c.model)).where(*which), list[str]()
        with self._reader.connect() as connection:
            while (
                name := connection.scalar(first.where(jobs.c.model > found[-1]) if found else first)
            ) is not None:
                found.append(str(name))
        return found


def _of(model: str | None, lane: Lane | None) -> list[ColumnElement[bool]]:
    which: list[ColumnElement[bool]] = [] if model is None else [jobs.c.model == model]
    if lane is Lane.INTERACTIVE:
        which.append(jobs.c.priority >= INTERACTIVE_PRIORITY)
    elif lane is Lane.BULK:
        which.append(jobs.c.priority < INTERACTIVE_PRIORITY)
    return which
