"""From the clock to rows: firing times that came, caught up with by the schedule's policy."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice, takewhile

from jobs.schedules import CatchUp, NewFiring, Schedule
from jobs.store import JobStore
from producer.schedules.times import next_time, times_after

ON_TIME = timedelta(minutes=2)
"""A firing time that is noticed this much later has not been missed."""

AT_ONCE = 1_000
"""Firing times that are looked at in one transaction; the next pass goes on after them."""


def make_firings(store: JobStore, now: datetime) -> int:
    """Make the rows of every firing time that came; says for how many schedules.

    Safe to run by many processes at once: of those that see the same time, one moves the schedule
    on, and only with it come rows (see `JobStore.advance_schedule`).
    """
    return sum(_advance(store, schedule, now) for schedule in store.due_schedules())


def _advance(store: JobStore, schedule: Schedule, now: datetime) -> bool:
    later = times_after(schedule.cron, schedule.timezone, schedule.next_at)
    passed = [schedule.next_at, *islice(takewhile(lambda time: time <= now, later), AT_ONCE)]
    if schedule.catch_up == CatchUp.ALL or len(passed) <= AT_ONCE:
        after = passed[-1]
    else:
        # Long out of service: nothing is made of most of these times, so leap over them.
        passed, after = [*passed, _last_time(schedule, now)], now
    following = next_time(schedule.cron, schedule.timezone, after)
    return store.advance_schedule(schedule, caught_up(schedule.catch_up, passed, now), following)


def _last_time(schedule: Schedule, now: datetime) -> datetime:
    """The last firing time up to `now`, of those in the last while, else of all."""
    found = schedule.next_at
    for hours in (1, 24, 24 * 32, 24 * 366):
        start = max(found, now - timedelta(hours=hours))
        times = list(takewhile(lambda time: time <= now, times_after(
            schedule.cron, schedule.timezone, start
        )))  # fmt: skip
        if times:
            return times[-1]
    return found


def caught_up(policy: CatchUp, passed: Sequence[datetime], now: datetime) -> list[NewFiring]:
    """The rows to make of firing times that passed, the last of them perhaps just now."""
    if policy == CatchUp.ALL:
        return [NewFiring(time) for time in passed]
    last, missed = passed[-1], len(passed) - 1
    count = f"{missed}" if missed < AT_ONCE else f"more than {AT_ONCE}"
    if policy == CatchUp.ONCE:
        return [NewFiring(last, note=f"stands for {count} missed before it" if missed else None)]
    if now - last <= ON_TIME:
        return [NewFiring(last, note=f"{count} before it were missed" if missed else None)]
    return [NewFiring(last, skipped=f"missed, and {count} before it: no control process ran")]
