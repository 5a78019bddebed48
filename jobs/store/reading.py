"""Looking: nothing here changes a row or takes a lock."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, func, select

from jobs.errors import NotFound
from jobs.filters import JobFilter
from jobs.records import Batch, Job
from jobs.states import State
from jobs.store.choosing import conditions
from jobs.store.tallying import Tallying
from jobs.tables import batch_jobs, batches, jobs


class Reading(Tallying):
    """What anybody may ask."""

    def job(self, job_id: UUID) -> Job:
        """Read one job.

        Raises:
            NotFound: there is none of that id.
        """
        with self._reader.connect() as connection:
            row = connection.execute(select(*JOB_COLUMNS).where(jobs.c.id == job_id)).one_or_none()
        if row is None:
            raise NotFound(f"there is no job {job_id}")
        return job_of(row)

    def batch(self, name_or_id: str) -> Batch:
        """Find a batch by its name or id.

        Raises:
            NotFound: there is none.
        """
        named = batches.c.name.is_not_distinct_from(name_or_id)
        which: ColumnElement[bool] = named
        with suppress(ValueError):
            which |= batches.c.id == UUID(name_or_id)
        # A name may look like another batch's id, which then comes first.
        statement = select(*BATCH_COLUMNS).where(which).order_by(named).limit(1)
        with self._reader.connect() as connection:
            row = connection.execute(statement).one_or_none()
        if row is None:
            raise NotFound(f"there is no batch {name_or_id!r}")
        return Batch(*row)

    def jobs_of(self, batch_id: UUID, states: Sequence[State] = tuple(State)) -> list[Job]:
        """The jobs of a batch in these states, oldest first."""
        statement = (
            select(*JOB_COLUMNS)
            .join(batch_jobs, batch_jobs.c.job_id == jobs.c.id)
            .where(batch_jobs.c.batch_id == batch_id, jobs.c.state.in_(states))
            .order_by(jobs.c.id)
        )
        with self._reader.connect() as connection:
            return [job_of(row) for row in connection.execute(statement)]

    def latest(self, model: str, state: State, limit: int) -> list[Job]:
        """A model's jobs in this state, those that were announced last first."""
        statement = (
            select(*JOB_COLUMNS)
            .where(jobs.c.state == state, jobs.c.model == model)
            .order_by(jobs.c.queued_at.desc())
            .limit(limit)
        )
        with self._reader.connect() as connection:
            return [job_of(row) for row in connection.execute(statement)]

    def find(
        self, which: JobFilter, *, limit: int | None = None, newest_end_first: bool = False
    ) -> list[Job]:
        """The jobs that `which` means, oldest first, or those that ended last first."""
        order = [jobs.c.finished_at.desc(), jobs.c.id] if newest_end_first else [jobs.c.id]
        statement = select(*JOB_COLUMNS).where(*conditions(which)).order_by(*order).limit(limit)
        with self._reader.connect() as connection:
            return [job_of(row) for row in connection.execute(statement)]

    def count(self, which: JobFilter) -> int:
        """How many jobs `which` means."""
        statement = select(func.count()).select_from(jobs).where(*conditions(which))
        with self._reader.connect() as connection:
            return int(connection.scalar(statement) or 0)

    def codes(self, which: JobFilter) -> dict[str, int]:
        """How often each error code stands on the jobs that `which` means, most often first."""
        code = func.coalesce(jobs.c.error_code, "")
        statement = select(code, func.count()).where(*conditions(which)).group_by(code)
        with self._reader.connect() as connection:
            found = [(str(name), int(count)) for name, count in connection.execute(statement)]
        return dict(sorted(found, key=lambda entry: (-entry[1], entry[0])))

    def batches_of(self, job_id: UUID) -> list[Batch]:
        """The batches that a job is in, oldest first."""
        statement = (
            select(*BATCH_COLUMNS)
            .join(batch_jobs, batch_jobs.c.batch_id == batches.c.id)
            .where(batch_jobs.c.job_id == job_id)
            .order_by(batches.c.id)
        )
        with self._reader.connect() as connection:
            return [Batch(*row) for row in connection.execute(statement)]

    def counts(self, batch_id: UUID | None = None) -> dict[State, int]:
        """How many jobs are in each state, in one batch or in all."""
        if batch_id is not None:
            return self._counts_of([batch_id])[batch_id]
        statement = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        with self._reader.connect() as connection:
            found = {State(state): count for state, count in connection.execute(statement)}
        return {state: found.get(state, 0) for state in State}


JOB_COLUMNS = [
    jobs.c[name]
    for name in (
        "id", "kind", "model", "priority", "state", "paused", "created_at", "due_at", "queued_at",
        "started_at", "finished_at", "attempts", "worker", "lease_until", "progress",
        "error_code", "error_message", "tenant",
    )
] + [jobs.c.spec.label("stored_spec"), jobs.c.result.label("stored_result")]  # fmt: skip
BATCH_COLUMNS = [batches.c[name] for name in ("id", "name", "created_at", "paused_at", "tenant")]


def job_of(row: Row[Any]) -> Job:
    """The job of a row of `JOB_COLUMNS`."""
    values = row._asdict()
    return Job(**values | {"state": State(values["state"])})
