"""Verdicts on results, and what else those who look through a batch ask."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import delete, func, select

from jobs.lanes import INTERACTIVE_PRIORITY, Lane
from jobs.marks import Verdict
from jobs.records import Job
from jobs.states import State
from jobs.store.base import StorePart, chunks
from jobs.store.reading import JOB_COLUMNS, job_of
from jobs.tables import jobs, marks

SIBLINGS = 200


@dataclass(frozen=True)
class Depth:
    """How many jobs of a model's lane wait."""

    model: str
    lane: Lane
    pending: int
    """Not announced yet."""
    queued: int
    """Announced, and claimed by nobody."""


class Marking(StorePart):
    """What galleries write and ask."""

    def mark(self, job_id: UUID, verdict: Verdict | None, by: str) -> None:
        """Say what somebody thinks of a job's result; None takes it back."""
        if verdict is None:
            with self._engine.begin() as connection:
                connection.execute(delete(marks).where(marks.c.job_id == job_id))
            return
        values = {"verdict": verdict, "marked_by": by, "marked_at": self._clock()}
        entry = self._insert(marks).values(job_id=job_id, **values)
        with self._engine.begin() as connection:
            connection.execute(entry.on_conflict_do_update(index_elements=["job_id"], set_=values))

    def marks_of(self, job_ids: Sequence[UUID]) -> dict[UUID, Verdict]:
        """The verdicts on these jobs, as far as there are."""
        found: dict[UUID, Verdict] = {}
        with self._reader.connect() as connection:
            for chunk in chunks(job_ids):
                which = marks.c.job_id.in_(chunk)
                rows = connection.execute(select(marks.c.job_id, marks.c.verdict).where(which))
                found |= {job_id: Verdict(verdict) for job_id, verdict in rows}
        return found

    def siblings(self, job: Job) -> list[Job]:
        """Other jobs that share the image's noise with this one, oldest first; its tenant's."""
        statement = (
            select(*JOB_COLUMNS)
            .where(
                jobs.c.inversion_digest == job.spec.inversion_digest(),
                jobs.c.id != job.id,
                jobs.c.tenant.is_not_distinct_from(job.tenant),
            )
            .order_by(jobs.c.id)
            .limit(SIBLINGS)
        )
        with self._reader.connect() as connection:
            return [job_of(row) for row in connection.execute(statement)]

    def depths(self) -> list[Depth]:
        """What waits, by model and lane; counts, so ask every few seconds at most."""
        urgent = (jobs.c.priority >= INTERACTIVE_PRIORITY).label("urgent")
        statement = (
            select(jobs.c.model, urgent, jobs.c.state, func.count())
            .where(jobs.c.state.in_((State.PENDING, State.QUEUED)))
            .group_by(jobs.c.model, urgent, jobs.c.state)
        )
        found: dict[tuple[str, Lane], dict[str, int]] = {}
        with self._reader.connect() as connection:
            for model, is_urgent, state, count in connection.execute(statement):
                lane = Lane.INTERACTIVE if is_urgent else Lane.BULK
                found.setdefault((model, lane), {})[state] = count
        return [
            Depth(*place, counts.get(State.PENDING, 0), counts.get(State.QUEUED, 0))
            for place, counts in sorted(found.items())
        ]
