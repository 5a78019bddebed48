"""Cron expressions in time zones, on the days when clocks change above all."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import InvalidInput
from jobs.schedules import CatchUp
from producer.schedules.due import ON_TIME, caught_up
from producer.schedules.times import check_times, in_words, next_time, times_after

BERLIN = "Europe/Berlin"
SPRING = datetime(2026, 3, 28, 12, tzinfo=UTC)
"""The noon before 02:00 becomes 03:00 in Berlin."""
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
AUTUMN = datetime(2026, 10, 24, 12, tzinfo=UTC)
"""The noon before 03:00 becomes 02:00."""


def times(cron: str, start: datetime, count: int, zone: str = BERLIN) -> list[str]:
    found = islice(times_after(cron, zone, start), count)
    return [f"{time:%d %H:%M}" for time in found]


def test_a_nightly_time_follows_the_zone_and_not_utc() -> None:
    assert times("0 5 * * *", SPRING - timedelta(days=1), 3) == ["28 04:00", "29 03:00", "30 03:00"]


def test_a_time_that_the_clock_jumps_over_fires_once_right_after_the_jump() -> None:
    # 02:30 does not exist on the 29th; 03:00 in Berlin is 01:00 in UTC.
    assert times("30 2 * * *", SPRING, 3) == ["29 01:00", "30 00:30", "31 00:30"]


def test_two_times_in_the_hour_that_is_jumped_over_become_one() -> None:
    assert times("15,30 2 * * *", SPRING, 3) == ["29 01:00", "30 00:15", "30 00:30"]


def test_a_time_that_comes_twice_fires_once() -> None:
    assert times("30 2 * * *", AUTUMN, 2) == ["25 00:30", "26 01:30"]


@pytest.mark.parametrize("begin", [15, 30, 45, 75, 90, 105])
def test_it_fires_once_wherever_in_the_double_hour_the_clock_is_looked_at(begin: int) -> None:
    midnight = datetime(2026, 10, 25, tzinfo=UTC)
    [first] = times("30 2 * * *", midnight + timedelta(minutes=begin), 1)
    assert first == ("25 00:30" if begin < 30 else "26 01:30")


def test_every_hour_is_every_hour_that_passes() -> None:
    for start in (SPRING, AUTUMN):
        found = list(islice(times_after("0 * * * *", BERLIN, start), 24))
        assert {after - before for before, after in pairwise(found)} == {timedelta(hours=1)}


@settings(max_examples=60, deadline=None)
@given(
    start=st.integers(0, 730 * 24 * 60).map(lambda m: FIRST + timedelta(minutes=m)),
    cron=st.sampled_from(
        ["30 2 * * *", "*/20 1-3 * * *", "0 0 29 2 *", "5 3 * * 0", "0 */2 * * *"]
    ),
    zone=st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "UTC"]),
)
def test_times_ascend_and_the_next_of_each_is_the_one_after(
    start: datetime, cron: str, zone: str
) -> None:
    found = list(islice(times_after(cron, zone, start), 6))
    assert found == sorted(set(found))
    assert found[0] > start
    # However a control process comes to look at the clock, it sees the same times.
    assert [next_time(cron, zone, time) for time in found[:-1]] == found[1:]


@pytest.mark.parametrize(
    ("cron", "zone", "said"),
    [
        ("0 2 * *", "UTC", "five fields"),
        ("* * * * * *", "UTC", "five fields"),
        ("@daily", "UTC", "five fields"),
        ("60 2 * * *", "UTC", "Bad minute"),
        ("0 0 30 2 *", "UTC", "Bad day-of-month"),
        ("0 2 * * *", "Europe/Atlantis", "no time zone"),
        ("0 2 * * *", "../../etc/passwd", "no time zone"),
        ("0 2 * * *", "", "no time zone"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_remedy(cron: str, zone: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        check_times(cron, zone)


def test_an_expression_is_told_in_words() -> None:
    assert in_words("0 2 * * 1-5") == "At 02:00 on Monday through Friday"


NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
MISSED = [NOW - timedelta(hours=hours) for hours in (3, 2, 1)]


def test_after_a_downtime_the_policy_decides_what_fires() -> None:
    [once] = caught_up(CatchUp.ONCE, MISSED, NOW)
    assert (once.due_at, once.skipped) == (MISSED[-1], None)
    assert "2 missed" in str(once.note)
    assert [each.due_at for each in caught_up(CatchUp.ALL, MISSED, NOW)] == MISSED
    [skipped] = caught_up(CatchUp.SKIP, MISSED, NOW)
    assert "no control process ran" in str(skipped.skipped)


@pytest.mark.parametrize("policy", CatchUp)
def test_a_time_that_has_just_come_fires_under_every_policy(policy: CatchUp) -> None:
    for late in (timedelta(0), ON_TIME):
        [firing] = caught_up(policy, [NOW - late], NOW)
        assert (firing.due_at, firing.skipped, firing.note) == (NOW - late, None, None)
