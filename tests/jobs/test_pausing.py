"""Batches that are held back, and let go."""

from uuid import UUID

import pytest
from sqlalchemy import Engine

from jobs.errors import NotFound
from jobs.ids import new_id
from jobs.states import State
from jobs.store import JobStore
from tests.jobs.factories import LEASE, Clock, claim, inversion, queue, states, submit


def paused(store: JobStore, job_ids: list[UUID]) -> list[bool]:
    return [store.job(job_id).paused for job_id in job_ids]


def test_a_paused_batch_is_neither_announced_nor_claimed_and_running_jobs_finish(
    store: JobStore, clock: Clock
) -> None:
    batch = store.open_batch("fruit").id
    job_ids = submit(store, 3, batch_id=batch)
    store.take_due(2)
    running = claim(store, job_ids[0])

    store.pause_batch(batch)

    assert states(store, job_ids) == ["running", "pending", "pending"]
    assert store.take_due(9) == []
    assert store.models_pending() == []
    assert store.claim(job_ids, "w2", lease=LEASE) == []
    assert store.batch("fruit").paused_at == clock.now
    assert store.heartbeat("w1", {(running.job_id, running.token): 0.5}, lease=LEASE)


def test_a_resumed_batch_goes_on(store: JobStore) -> None:
    batch = store.open_batch("fruit").id
    job_ids = submit(store, 3, batch_id=batch)
    store.pause_batch(batch)

    store.resume_batch(batch)

    assert [due.id for due in store.take_due(9)] == job_ids
    assert store.batch("fruit").paused_at is None


@pytest.mark.parametrize("how", ["postponed", "given back", "expired", "retried"])
def test_a_running_job_that_comes_back_to_a_paused_batch_waits_there(
    store: JobStore, clock: Clock, how: str
) -> None:
    batch = store.open_batch().id
    [job_id] = queue(store, 1, batch_id=batch)
    running = claim(store, job_id)
    store.pause_batch(batch)

    if how == "postponed":
        store.postpone(running, "storage", "away", delay=0)
    elif how == "given back":
        store.give_back(running)
    elif how == "expired":
        clock.tick(LEASE + 1)
        store.expire_leases()
    else:
        store.fail(running, "bad", "bad")
        store.retry([job_id])

    assert states(store, [job_id]) == ["pending"]
    assert store.take_due(1) == []
    store.resume_batch(batch)
    assert len(store.take_due(1)) == 1


def test_what_is_submitted_to_a_paused_batch_waits_too(store: JobStore) -> None:
    batch, other = store.open_batch().id, store.open_batch().id
    [known] = queue(store, 1, batch_id=other)
    store.pause_batch(batch)

    [_, new] = (each.job_id for each in store.submit(map(inversion, (0, 1)), batch_id=batch))

    assert paused(store, [known, new]) == [True, True]
    assert states(store, [known, new]) == ["pending", "pending"]
    assert store.take_due(9) == []


def test_a_job_of_two_paused_batches_waits_for_both(store: JobStore) -> None:
    one, two = store.open_batch().id, store.open_batch().id
    job_ids = submit(store, 1, batch_id=one)
    submit(store, 1, batch_id=two)
    store.pause_batch(one)
    store.pause_batch(two)

    store.resume_batch(one)
    assert store.take_due(1) == []

    store.resume_batch(two)
    assert [due.id for due in store.take_due(1)] == job_ids


def test_other_batches_go_on(store: JobStore) -> None:
    batch = store.open_batch().id
    submit(store, 2, batch_id=batch)
    [other] = [each.job_id for each in store.submit([inversion(9)])]

    store.pause_batch(batch)

    assert [due.id for due in store.take_due(9)] == [other]


def test_a_pause_survives_a_restart(store: JobStore, engine: Engine, clock: Clock) -> None:
    batch = store.open_batch("fruit").id
    submit(store, 1, batch_id=batch)
    store.pause_batch(batch)

    again = JobStore(engine, clock=clock)

    assert again.take_due(1) == []
    assert again.batch("fruit").paused_at is not None
    assert again.settle_batches() == 0


def test_a_paused_job_can_be_cancelled(store: JobStore) -> None:
    batch = store.open_batch().id
    job_ids = submit(store, 2, batch_id=batch)
    store.pause_batch(batch)

    assert store.cancel(job_ids) == 2
    assert store.counts(batch)[State.CANCELLED] == 2


def test_more_jobs_than_one_piece_are_paused_and_resumed(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.store.pausing.PAUSE_CHUNK", 2)
    batch = store.open_batch().id
    job_ids = submit(store, 5, batch_id=batch)

    store.pause_batch(batch)
    assert paused(store, job_ids) == [True] * 5

    store.resume_batch(batch)
    assert paused(store, job_ids) == [False] * 5


def test_a_batch_that_is_not_there_is_said_so(store: JobStore) -> None:
    with pytest.raises(NotFound, match="no batch"):
        store.pause_batch(new_id())
