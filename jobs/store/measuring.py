"""Figures for those who watch: counts and ages, of the whole deployment."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Executable, case, func, select

from jobs.lanes import INTERACTIVE_PRIORITY, Lane
from jobs.states import State
from jobs.store.base import StorePart
from jobs.tables import jobs, webhook_deliveries


@dataclass(frozen=True)
class Figures:
    """What SQL says at one moment. Ages are in seconds, 0 where nothing waits."""

    jobs: dict[str, int]
    """By state; every state is there."""
    failures: dict[str, int]
    """Failed jobs by error code."""
    waiting: dict[str, float]
    """By lane: for how long the job has been due that waits longest for a worker."""
    overdue_leases: int
    """Running jobs whose worker fell silent and that nobody took over yet."""
    deliveries: dict[str, int]
    """Webhook deliveries by state."""


class Measuring(StorePart):
    """What is counted; nothing here changes a row or takes a lock."""

    def measure(self) -> Figures:
        """Count everything. Reads the jobs' index, so ask every few seconds, not every few ms."""
        now = self._clock()
        with self._reader.connect() as connection:

            def pairs(statement: Executable) -> dict[str, Any]:
                return {key: value for key, value in connection.execute(statement).all()}  # noqa: C416

            states = pairs(select(jobs.c.state, func.count()).group_by(jobs.c.state))
            failures = pairs(_failures())
            oldest = pairs(_oldest(now))
            told = webhook_deliveries.c.state
            deliveries = pairs(select(told, func.count()).group_by(told))
            overdue = select(func.count()).where(
                jobs.c.state == State.RUNNING, jobs.c.lease_until < now
            )
            return Figures(
                jobs={state.value: states.get(state.value, 0) for state in State},
                failures=failures,
                waiting={
                    lane.value: max(0.0, (now - oldest.get(lane.value, now)).total_seconds())
                    for lane in Lane
                },
                overdue_leases=connection.execute(overdue).scalar_one(),
                deliveries=deliveries,
            )


def _failures() -> Executable:
    code = func.coalesce(jobs.c.error_code, "unknown")
    return select(code, func.count()).where(jobs.c.state == State.FAILED).group_by(code)


def _oldest(now: datetime) -> Executable:
    lane = case(
        (jobs.c.priority >= INTERACTIVE_PRIORITY, Lane.INTERACTIVE.value), else_=Lane.BULK.value
    )
    return (
        select(lane, func.min(jobs.c.due_at))
        .where(
            jobs.c.state.in_([State.PENDING, State.QUEUED]),
            jobs.c.due_at <= now,
            jobs.c.paused.is_(False),
        )
        .group_by(lane)
    )
