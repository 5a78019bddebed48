"""Schedules and firings in SQL: each time once, one holder at a time."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Barrier

import pytest

from jobs.errors import InvalidInput, LeaseLost, NotFound
from jobs.ids import new_id
from jobs.schedules import (
    CatchUp,
    FiringClaim,
    FiringState,
    Item,
    NewFiring,
    Overlap,
    Reason,
    Schedule,
    Template,
)
from jobs.store import JobStore
from tests.jobs.factories import LEASE, Clock, submit

HOUR = timedelta(hours=1)


@pytest.fixture
def schedule(store: JobStore, clock: Clock) -> Schedule:
    return make(store, clock.now)


def make(store: JobStore, now: datetime, overlap: Overlap = Overlap.QUEUE) -> Schedule:
    """A schedule whose first time is now."""
    made = Schedule(
        id=new_id(),
        name=f"nightly {overlap}",
        cron="0 * * * *",
        timezone="Europe/Berlin",
        source="s3://photos/in/",
        template=Template(base="{caption}", edits=("a {name}",), model="demo"),
        reasons=frozenset({Reason.NEW, Reason.CHANGED}),
        catch_up=CatchUp.ALL,
        overlap=overlap,
        created_at=now,
        paused_at=None,
        next_at=now,
    )
    store.create_schedule(made)
    return made


def come(store: JobStore, schedule: Schedule, *, hours: int = 1) -> Schedule:
    """Let that many firing times come."""
    times = [NewFiring(schedule.next_at + HOUR * hour) for hour in range(hours)]
    assert store.advance_schedule(schedule, times, schedule.next_at + HOUR * hours)
    return store.schedule(schedule.name)


def take(store: JobStore) -> FiringClaim:
    claim = store.take_firing("c1", lease=LEASE)
    assert claim is not None
    return claim


def end(store: JobStore, claim: FiringClaim) -> None:
    store.end_firing(claim, looked_at=0, refused=0, note=None)


def states_of(store: JobStore, schedule: Schedule) -> list[FiringState]:
    """The firings' states, oldest first."""
    return [each.state for each in reversed(store.firings(schedule))]


def test_a_schedule_comes_back_as_it_was_stored(store: JobStore, schedule: Schedule) -> None:
    assert store.schedule(schedule.name) == schedule
    assert store.schedule(schedule.id) == schedule
    assert store.schedules() == [schedule]


def test_a_name_is_taken_once(store: JobStore, schedule: Schedule) -> None:
    with pytest.raises(InvalidInput, match="already"):
        store.create_schedule(replace(schedule, id=new_id()))


def test_a_schedule_that_is_not_there_is_said_to_be(store: JobStore) -> None:
    with pytest.raises(NotFound, match="edict schedule list"):
        store.schedule("none")


def test_many_processes_that_see_a_time_come_make_one_firing(
    store: JobStore, schedule: Schedule
) -> None:
    start = Barrier(8)

    def advance(_: int) -> bool:
        start.wait()
        return store.advance_schedule(
            schedule, [NewFiring(schedule.next_at)], schedule.next_at + HOUR
        )

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(advance, range(8)))

    assert sum(won) == 1
    assert [each.due_at for each in store.firings(schedule)] == [schedule.next_at]


def test_a_paused_schedule_neither_fires_nor_catches_up(
    store: JobStore, schedule: Schedule, clock: Clock
) -> None:
    store.pause_schedule(schedule)
    assert store.due_schedules() == []
    assert not store.advance_schedule(schedule, [NewFiring(clock.now)], clock.now + HOUR)
    assert store.firings(schedule) == []

    store.resume_schedule(schedule, clock.now + HOUR)

    assert store.due_schedules() == []
    clock.tick(3_600)
    assert [each.id for each in store.due_schedules()] == [schedule.id]


def test_a_firing_has_one_holder_and_goes_to_the_next_when_that_falls_silent(
    store: JobStore, schedule: Schedule, clock: Clock
) -> None:
    come(store, schedule)
    first = take(store)
    assert store.take_firing("c2", lease=LEASE) is None

    clock.tick(LEASE + 1)
    second = store.take_firing("c2", lease=LEASE)

    assert second is not None
    assert second.firing.id == first.firing.id
    assert second.firing.attempts == 2
    for late in (
        lambda: end(store, first),
        lambda: store.fail_firing(first, "late"),
        lambda: store.release_firing(first),
        lambda: store.renew_firing(first, lease=LEASE),
        lambda: store.remember(first, [Item("i", "s", "r", None)], submitted=9),
    ):
        with pytest.raises(LeaseLost):
            late()
    assert store.items(schedule.id, ["i"]) == {}
    assert store.firings(schedule)[0].submitted == 0


def test_an_orderly_stop_spends_no_attempt_and_an_outage_does(
    store: JobStore, schedule: Schedule, clock: Clock
) -> None:
    come(store, schedule)

    store.release_firing(take(store))
    clock.tick(0.001)
    store.postpone_firing(take(store), delay=10)
    assert store.take_firing("c1", lease=LEASE) is None
    clock.tick(11)

    assert take(store).firing.attempts == 2


def test_many_takers_at_once_are_one_holder(store: JobStore, schedule: Schedule) -> None:
    come(store, schedule)
    start = Barrier(8)

    def take_it(number: int) -> FiringClaim | None:
        start.wait()
        return store.take_firing(f"c{number}", lease=LEASE)

    with ThreadPoolExecutor(8) as pool:
        taken = [claim for claim in pool.map(take_it, range(8)) if claim]

    assert len(taken) == 1


def test_a_firing_ends_with_the_jobs_of_its_batch(store: JobStore, schedule: Schedule) -> None:
    come(store, schedule)
    claim = take(store)
    batch = store.open_batch("b")
    job_ids = submit(store, 2, batch_id=batch.id)
    store.remember(claim, [], batch_id=batch.id, submitted=2)
    store.end_firing(claim, looked_at=3, refused=1, note="refused: x")

    store.cancel(job_ids[:1])
    assert store.settle_firings() == 0
    store.cancel(job_ids)
    assert store.settle_firings() == 1

    [done] = store.firings(schedule)
    assert done.state == FiringState.DONE
    assert (done.looked_at, done.submitted, done.refused) == (3, 2, 1)
    assert done.batch_id == batch.id


def test_a_queued_firing_begins_when_the_one_before_has_ended(
    store: JobStore, schedule: Schedule
) -> None:
    come(store, schedule, hours=2)
    first = take(store)
    assert store.skip_overlapping() == 0
    assert store.take_firing("c2", lease=LEASE) is None
    end(store, first)
    assert store.take_firing("c2", lease=LEASE) is None

    store.settle_firings()

    assert take(store).firing.due_at == schedule.next_at + HOUR


def test_an_overlapping_firing_is_skipped_where_that_is_the_policy(
    store: JobStore, clock: Clock
) -> None:
    schedule = make(store, clock.now, Overlap.SKIP)
    moved = come(store, schedule)
    take(store)
    come(store, moved)

    assert store.skip_overlapping() == 1

    assert states_of(store, schedule) == ["firing", "skipped"]
    assert "had not ended" in str(store.firings(schedule)[0].note)


def test_what_somebody_asked_for_is_never_skipped_and_needs_no_clock(
    store: JobStore, clock: Clock
) -> None:
    schedule = make(store, clock.now, Overlap.SKIP)
    moved = come(store, schedule)
    first = take(store)
    clock.tick(1)
    store.pause_schedule(moved)
    store.fire_now(moved)

    assert store.skip_overlapping() == 0
    end(store, first)
    store.settle_firings()

    assert take(store).firing.manual


def test_a_paused_schedules_waiting_firing_waits_on(store: JobStore, schedule: Schedule) -> None:
    come(store, schedule)
    store.pause_schedule(schedule)
    assert store.take_firing("c1", lease=LEASE) is None
    store.resume_schedule(schedule, schedule.next_at + HOUR)
    assert store.take_firing("c1", lease=LEASE) is not None


def test_memory_is_renewed_and_counted_with_the_firing(store: JobStore, schedule: Schedule) -> None:
    come(store, schedule)
    claim = take(store)
    store.remember(claim, [Item("a", "1", "r", None), Item("b", "1", "r", "m")], submitted=2)
    store.remember(claim, [Item("a", "2", "r", "m")], submitted=1)

    assert store.items(schedule.id, ["a", "b", "c"]) == {
        "a": Item("a", "2", "r", "m"),
        "b": Item("b", "1", "r", "m"),
    }
    assert store.firings(schedule)[0].submitted == 3


def test_a_deleted_schedule_stops_who_works_on_it_and_leaves_its_jobs(
    store: JobStore, schedule: Schedule
) -> None:
    come(store, schedule)
    claim = take(store)
    batch = store.open_batch("kept")
    submit(store, 1, batch_id=batch.id)
    store.remember(claim, [Item("a", "1", "r", None)], batch_id=batch.id, submitted=1)

    store.delete_schedule(schedule)

    with pytest.raises(LeaseLost):
        end(store, claim)
    assert len(store.jobs_of(batch.id)) == 1
    assert store.items(schedule.id, ["a"]) == {}


def test_a_turn_is_taken_once_in_its_time(store: JobStore, clock: Clock) -> None:
    start = Barrier(6)

    def turn(_: int) -> bool:
        start.wait()
        return store.take_turn("prune", every=60)

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(turn, range(6))) == 1
        clock.tick(59)
        assert sum(pool.map(turn, range(6))) == 0
        clock.tick(1)
        assert sum(pool.map(turn, range(6))) == 1
