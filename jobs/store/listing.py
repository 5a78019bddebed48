"""Looking at much: batches with their counts, and a batch's jobs page by page."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, select

from jobs.records import Batch, Job
from jobs.states import State
from jobs.store.reading import JOB_COLUMNS, Reading, job_of
from jobs.tables import batch_jobs, batches, jobs


@dataclass(frozen=True)
class BatchCounts:
    """A batch, and how many of its jobs are in each state."""

    batch: Batch
    counts: dict[State, int]


class Listing(Reading):
    """What lists and exports ask."""

    def page_of(
        self, batch_id: UUID, after: UUID | None, limit: int, *, until: UUID | None = None
    ) -> list[Job]:
        """A batch's next jobs after one of them (None: from the first), in the order of ids."""
        members = select(batch_jobs.c.job_id).where(batch_jobs.c.batch_id == batch_id)
        if after is not None:
            members = members.where(batch_jobs.c.job_id > after)
        if until is not None:
            members = members.where(batch_jobs.c.job_id <= until)
        page = members.order_by(batch_jobs.c.job_id).limit(limit).cte("page")
        statement = select(*JOB_COLUMNS).join(page, page.c.job_id == jobs.c.id).order_by(jobs.c.id)
        with self._reader.connect() as connection:
            return [job_of(row) for row in connection.execute(statement)]

    def batches(self, limit: int) -> list[BatchCounts]:
        """The latest batches, newest first."""
        newest = select(batches).order_by(batches.c.created_at.desc(), batches.c.id.desc())
        with self._reader.connect() as connection:
            found = [
                Batch(row.id, row.name, row.created_at)
                for row in connection.execute(newest.limit(limit))
            ]
        return [BatchCounts(batch, self.counts(batch.id)) for batch in found]

    def failures_of(self, batch_id: UUID) -> dict[str, int]:
        """How many jobs of a batch failed, by the code of the error."""
        statement = (
            select(jobs.c.error_code, func.count())
            .join(batch_jobs, batch_jobs.c.job_id == jobs.c.id)
            .where(batch_jobs.c.batch_id == batch_id, jobs.c.state == State.FAILED)
            .group_by(jobs.c.error_code)
            .order_by(func.count().desc())
        )
        with self._reader.connect() as connection:
            return {str(code): count for code, count in connection.execute(statement)}
