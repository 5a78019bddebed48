"""The heartbeat of a worker process, on a real store."""

import threading
import time
from uuid import UUID

import pytest

from jobs.keys import sha256
from jobs.specs import EditSpec, ModelRef, Source
from jobs.states import State
from jobs.store import JobStore
from tests.pipeline import eventually
from worker.leases import LeaseKeeper


@pytest.fixture
def job_ids(store: JobStore) -> list[UUID]:
    """Three queued jobs."""
    specs = [
        EditSpec(
            source=Source(uri="s3://bucket/key", sha256=sha256(b"")),
            model=ModelRef(name="demo"),
            edit_prompt=prompt,
        )
        for prompt in ("a dog", "a cat", "a bird")
    ]
    submissions = store.submit(specs)
    store.take_due(10)
    return [submission.job_id for submission in submissions]


def test_a_lease_is_renewed_as_long_as_it_is_held(store: JobStore, job_ids: list[UUID]):
    with LeaseKeeper(store, "worker", lease=3) as keeper:
        held, dropped, *_ = keeper.claim(job_ids[:2])
        keeper.drop(dropped)
        time.sleep(4)

        assert store.expire_leases() == 1
        assert store.job(held.job_id).state == State.RUNNING
        assert store.job(dropped.job_id).state == State.PENDING


def test_the_progress_reported_is_on_the_row_after_the_next_heartbeat(
    store: JobStore, job_ids: list[UUID]
):
    keeper = LeaseKeeper(store, "worker", lease=30)
    first, second, _ = keeper.claim(job_ids)

    keeper.report(first, 0.25)
    keeper.report(second, 0.75)
    keeper.beat()

    assert store.job(first.job_id).progress == 0.25
    assert store.job(second.job_id).progress == 0.75


def test_a_claim_that_somebody_else_took_over_is_dropped(store: JobStore, job_ids: list[UUID]):
    first = LeaseKeeper(store, "first", lease=0.05)
    second = LeaseKeeper(store, "second", lease=30)
    claim, *_ = first.claim(job_ids)
    time.sleep(0.1)
    store.expire_leases()
    store.take_due(10)
    second.claim(job_ids)

    first.beat()

    assert not first.holds(claim)


def test_a_job_that_was_lost_and_claimed_again_is_held_by_its_second_claim_only(
    store: JobStore, job_ids: list[UUID]
):
    keeper = LeaseKeeper(store, "worker", lease=30)
    stale, *_ = keeper.claim(job_ids[:1])
    store.cancel(job_ids[:1])
    store.retry(job_ids[:1])
    store.take_due(10)
    claim, *_ = keeper.claim(job_ids[:1])

    keeper.beat()
    assert (keeper.holds(stale), keeper.holds(claim)) == (False, True)

    keeper.drop(stale)
    assert keeper.holds(claim)


def test_an_outage_of_the_database_does_not_end_the_heartbeat(
    store: JobStore, job_ids: list[UUID], monkeypatch: pytest.MonkeyPatch
):
    from sqlalchemy.exc import OperationalError

    failures = threading.Semaphore(2)
    heartbeat = store.heartbeat

    def flaky(*arguments, **options):
        if failures.acquire(blocking=False):
            raise OperationalError("UPDATE", {}, Exception("the database is away"))
        return heartbeat(*arguments, **options)

    monkeypatch.setattr(store, "heartbeat", flaky)
    with LeaseKeeper(store, "worker", lease=0.9) as keeper:
        claims = keeper.claim(job_ids)
        time.sleep(1.5)

        assert all(keeper.holds(claim) for claim in claims)
        assert store.job(claims[0].job_id).state == State.RUNNING


def test_nothing_is_held_while_the_process_stops(store: JobStore, job_ids: list[UUID]):
    keeper = LeaseKeeper(store, "worker", lease=30)
    claims = keeper.claim(job_ids)

    keeper.stop_work()

    assert not any(keeper.holds(claim) for claim in claims)


def test_a_cancelled_job_is_dropped_long_before_the_next_heartbeat(
    store: JobStore, job_ids: list[UUID], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("worker.leases.HEARTBEAT_SECONDS", 3_600)
    with LeaseKeeper(store, "worker", lease=20_000) as keeper:
        cancelled, kept, _ = keeper.claim(job_ids)

        store.cancel([cancelled.job_id])

        eventually(lambda: not keeper.holds(cancelled), seconds=30)
        assert keeper.holds(kept)


def test_within_its_grace_a_stopping_process_holds_what_can_end_in_time(
    store: JobStore, job_ids: list[UUID]
):
    keeper = LeaseKeeper(store, "worker", lease=30)
    nearly, hardly, waiting = keeper.claim(job_ids)
    time.sleep(0.2)
    keeper.report(nearly, 0.9)
    keeper.report(hardly, 0.001)

    keeper.stop_work(grace=60)

    assert [keeper.holds(claim) for claim in (nearly, hardly, waiting)] == [True, False, False]
    keeper.stop_work()
    assert not keeper.holds(nearly)
