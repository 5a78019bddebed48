"""What the parts of the store share: the connection, the clock, and how rows are changed."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Engine, Select, Update, select, update
from sqlalchemy.dialects import postgresql, sqlite

from jobs.states import ENDED
from jobs.store.announcing import announce_ends
from jobs.tables import jobs

_Id = TypeVar("_Id")

IDS_CHUNK = 10_000
"""Ids in one statement: databases limit its parameters, SQLite's default is 32,766."""


def utc_now() -> datetime:
    """The moment, in UTC."""
    return datetime.now(UTC)


class StorePart:
    """Base of every part of the store."""

    def __init__(
        self, engine: Engine, *, max_attempts: int = 3, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._engine = engine
        self._reader = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._max_attempts = max_attempts
        # The first loss may be a neighbour's fault: one alone never ends a job.
        self._max_losses = max(2, max_attempts)
        self._clock = clock
        dialect = sqlite if engine.dialect.name == "sqlite" else postgresql
        self._insert = dialect.insert

    def _change(self, statement: Update) -> int:
        with self._engine.begin() as connection:
            return len(self._changed(connection, statement))

    def _changed(self, connection: Connection, statement: Update) -> list[UUID]:
        """Change jobs, and write down who is to be told of those that end by it."""
        # Ids, not a count: Python's SQLite driver does not count what begins with a WITH.
        rows = connection.execute(statement.returning(jobs.c.id, jobs.c.state)).all()
        announce_ends(connection, [row.id for row in rows if row.state in ENDED], self._clock())
        return [row.id for row in rows]


def change(*which: ColumnElement[bool], **values: Any) -> Update:
    """The statement that changes all jobs that `which` names, the state that they leave included.

    It locks them in the order of their ids first, so that two statements that change many jobs
    never wait for each other in a circle.
    """
    return change_rows(select(jobs.c.id).where(*which).order_by(jobs.c.id), **values)


def change_rows(rows: Select[Any], *, skip_locked: bool = False, **values: Any) -> Update:
    """Change the jobs whose ids `rows` selects and locks, in its order.

    The lock is held until the end, and the rows are looked at again once it is granted: what
    `rows` asks of them is true when they change. A membership of a batch does not need this lock,
    so submissions do not hide jobs from those that skip what is locked. (SQLite has one lock.)
    """
    chosen = rows.with_for_update(key_share=True, skip_locked=skip_locked, of=jobs).cte("chosen")
    return update(jobs).where(jobs.c.id.in_(select(chosen.c.id))).values(**values)


def chunks(ids: Sequence[_Id]) -> Iterator[Sequence[_Id]]:
    """Take a long list of ids apart, for one statement each."""
    for start in range(0, len(ids), IDS_CHUNK):
        yield ids[start : start + IDS_CHUNK]
