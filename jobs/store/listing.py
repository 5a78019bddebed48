"""Looking at much, page by page: batches with their counts, jobs, and what ended since.

A page's place is kept by the last id seen, so that new rows shift nothing.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, literal, or_, select, tuple_

from jobs.filters import JobFilter, Order
from jobs.records import Batch, Job
from jobs.states import ENDED, State
from jobs.store.choosing import conditions, figure
from jobs.store.reading import BATCH_COLUMNS, JOB_COLUMNS, Reading, job_of
from jobs.tables import batch_jobs, batches, jobs


@dataclass(frozen=True)
class BatchCounts:
    """A batch, and how many of its jobs are in each state."""

    batch: Batch
    counts: dict[State, int]
    flagged: int = 0
    """Of those that succeeded: how many fell short of the batch's gate."""


class Listing(Reading):
    """What lists, exports and the HTTP API ask."""

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

    def list_jobs(
        self,
        which: JobFilter,
        after: UUID | None,
        limit: int | None,
        order: Order = Order.NEWEST,
    ) -> list[Job]:
        """The jobs that `which` means behind one of them (None: from the first), in this order.

        An order by a figure looks at all jobs that are meant. Those without it come last.
        """
        statement = select(*JOB_COLUMNS).where(*conditions(which)).limit(limit)
        keys = [*_figure_keys(order), jobs.c.id]
        if after is not None:
            place = select(*keys).where(jobs.c.id == after).subquery()
            here = tuple_(*(select(column).scalar_subquery() for column in place.columns))
            row = tuple_(*keys)
            statement = statement.where(row < here if order.descends else row > here)
        ordered = (key.desc() if order.descends else key.asc() for key in keys)
        with self._reader.connect() as connection:
            return [job_of(row) for row in connection.execute(statement.order_by(*ordered))]

    def batches(
        self, limit: int, *, before: UUID | None = None, tenant: str | None = None
    ) -> list[BatchCounts]:
        """The batches made before one of them (None: up to now), newest first."""
        statement = select(*BATCH_COLUMNS).order_by(batches.c.id.desc()).limit(limit)
        if tenant is not None:
            statement = statement.where(batches.c.tenant == tenant)
        if before is not None:
            statement = statement.where(batches.c.id < before)
        with self._reader.connect() as connection:
            found = [Batch(*row) for row in connection.execute(statement)]
        ids = [batch.id for batch in found]
        counts, flagged = self._counts_of(ids), self._flagged(ids)
        return [BatchCounts(batch, counts[batch.id], flagged[batch.id]) for batch in found]

    def ends_of(
        self, batch_id: UUID, since: datetime | None, after: UUID | None, limit: int
    ) -> list[Job]:
        """A batch's jobs that ended at or after a moment, in the order of their ends.

        With `after`, only those behind that job, which ended at `since`.
        """
        statement = (
            select(*JOB_COLUMNS)
            .join(batch_jobs, batch_jobs.c.job_id == jobs.c.id)
            .where(batch_jobs.c.batch_id == batch_id, jobs.c.state.in_(ENDED))
            .where(jobs.c.finished_at.is_not(None))
            .order_by(jobs.c.finished_at, jobs.c.id)
            .limit(limit)
        )
        if since is not None and after is not None:
            behind = and_(jobs.c.finished_at == since, jobs.c.id > after)
            statement = statement.where(or_(jobs.c.finished_at > since, behind))
        elif since is not None:
            statement = statement.where(jobs.c.finished_at >= since)
        with self._reader.connect() as connection:
            return [job_of(row) for row in connection.execute(statement)]


def _figure_keys(order: Order) -> list[ColumnElement[Any]]:
    if order.figure is None:
        return []
    last = -math.inf if order.descends else math.inf
    return [func.coalesce(figure(order.figure), literal(last))]
