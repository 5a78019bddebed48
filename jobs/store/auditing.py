"""Who submitted what over HTTP, and whether they may submit more.

A submission is written down before it is made: quotas then hold however many requests come at
once. One whose server died in between counts for a while, and as much as it asked for.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from jobs.access import NO_QUOTA, Quota
from jobs.ids import new_id
from jobs.states import LIVE
from jobs.store.base import StorePart
from jobs.tables import api_keys, api_submissions, jobs

DAY = timedelta(hours=24)
BEING_MADE = timedelta(minutes=5)
"""After this time, a submission that names nothing died with its server."""


class OverQuota(Exception):
    """The submission would be more than its key may ask for."""

    def __init__(self, name: str, limit: int, there: int, asked: int) -> None:
        super().__init__(f"{name}: {there} and {asked} more are over the limit of {limit}")
        self.name = name
        """The field of `Quota`."""
        self.limit = limit


@dataclass(frozen=True)
class Audited:
    """A submission as its row says."""

    id: UUID
    at: datetime
    name: str
    """Of the key."""
    tenant: str | None
    jobs: int
    bytes: int
    job_id: UUID | None
    batch_id: UUID | None


@dataclass(frozen=True)
class Submitter:
    """Who asks."""

    caller: str
    """The key's id in hexadecimal digits, or "local"."""
    name: str
    tenant: str | None
    quota: Quota


class Auditing(StorePart):
    """Keeps the book of submissions."""

    def begin_submission(self, who: Submitter, *, jobs: int) -> UUID:
        """Write down that so many jobs come; their images' bytes, as these come (`add_bytes`).

        Raises:
            OverQuota: that would be too much; nothing was written.
        """
        entry = {
            "id": new_id(),
            "at": self._clock(),
            "caller": who.caller,
            "name": who.name,
            "tenant": who.tenant,
            "jobs": jobs,
            "bytes": 0,
        }
        with self._engine.begin() as connection:
            if who.quota != NO_QUOTA:
                _one_after_the_other(connection, who)
                self._check(connection, who, jobs)
            connection.execute(insert(api_submissions).values(entry))
        return UUID(str(entry["id"]))

    def add_bytes(self, who: Submitter, submission: UUID, size: int) -> None:
        """Write down that it comes with so many bytes more.

        Raises:
            OverQuota: that would be too much; nothing was written.
        """
        statement = update(api_submissions).where(api_submissions.c.id == submission)
        with self._engine.begin() as connection:
            if who.quota.max_bytes is not None:
                _one_after_the_other(connection, who)
                _refuse_over("max_bytes", who, self._sum_today(connection, who, "bytes"), size)
            connection.execute(statement.values(bytes=api_submissions.c.bytes + size))

    def _check(self, connection: Connection, who: Submitter, new: int) -> None:
        mine = api_submissions.c.caller == who.caller
        if who.quota.max_jobs is not None:
            today = self._sum_today(connection, who, "jobs")
            _refuse_over("max_jobs", who, today, new)
        if who.quota.max_live is not None:
            unnamed = api_submissions.c.job_id.is_(None) & api_submissions.c.batch_id.is_(None)
            coming = mine & unnamed & (api_submissions.c.at > self._clock() - BEING_MADE)
            live = _live(connection, who.tenant) + _sum(connection, "jobs", coming)
            _refuse_over("max_live", who, live, new)

    def _sum_today(self, connection: Connection, who: Submitter, column: str) -> int:
        mine = api_submissions.c.caller == who.caller
        return _sum(connection, column, mine & (api_submissions.c.at > self._clock() - DAY))

    def end_submission(
        self, submission: UUID, *, job_id: UUID | None = None, batch_id: UUID | None = None
    ) -> None:
        """Write down what came of it."""
        statement = update(api_submissions).where(api_submissions.c.id == submission)
        with self._engine.begin() as connection:
            connection.execute(statement.values(job_id=job_id, batch_id=batch_id))

    def refuse_submission(self, submission: UUID) -> None:
        """Forget one that was refused after all; only the bytes that it brought go on counting."""
        which = api_submissions.c.id == submission
        with self._engine.begin() as connection:
            connection.execute(delete(api_submissions).where(which, api_submissions.c.bytes == 0))
            connection.execute(update(api_submissions).where(which).values(jobs=0))

    def submissions(
        self, limit: int, *, before: UUID | None = None, tenant: str | None = None
    ) -> list[Audited]:
        """The submissions made before one of them (None: up to now), newest first."""
        statement = select(*_AUDITED).order_by(api_submissions.c.id.desc()).limit(limit)
        if before is not None:
            statement = statement.where(api_submissions.c.id < before)
        if tenant is not None:
            statement = statement.where(api_submissions.c.tenant == tenant)
        with self._reader.connect() as connection:
            return [Audited(*row) for row in connection.execute(statement)]


_AUDITED = [api_submissions.c[name] for name in Audited.__dataclass_fields__]


def _one_after_the_other(connection: Connection, who: Submitter) -> None:
    """Until the transaction ends, nobody else counts for this key."""
    mine = select(api_keys.c.id).where(api_keys.c.id == UUID(who.caller))
    connection.execute(mine.with_for_update())


def _sum(connection: Connection, column: str, which: ColumnElement[bool]) -> int:
    total: Any = func.coalesce(func.sum(api_submissions.c[column]), 0)
    return int(connection.scalar(select(total).where(which)) or 0)


def _live(connection: Connection, tenant: str | None) -> int:
    statement = select(func.count()).select_from(jobs).where(jobs.c.state.in_(LIVE))
    if tenant is not None:
        statement = statement.where(jobs.c.tenant == tenant)
    return int(connection.scalar(statement) or 0)


def _refuse_over(name: str, who: Submitter, there: int, asked: int) -> None:
    limit: int = getattr(who.quota, name)
    if there + asked > limit:
        raise OverQuota(name, limit, there, asked)
