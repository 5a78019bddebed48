"""Whose leases are judged: those of workers that fell silent, not those that nobody could renew."""

import pytest
from sqlalchemy.exc import OperationalError

from jobs.database import open_database
from jobs.states import State
from jobs.store import JobStore
from producer.control.expiry import LeaseExpiry
from tests.jobs.factories import LEASE, Clock, claim, queue


class Seconds:
    """A monotonic clock that stands still until it is told otherwise."""

    def __init__(self, rows: Clock) -> None:
        self.now = 0.0
        self._rows = rows

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        """Let time pass here and for the rows."""
        self.now += seconds
        self._rows.tick(seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(database_url: str, clock: Clock):
    engine = open_database(database_url)
    yield JobStore(engine, clock=clock)
    engine.dispose()


@pytest.fixture
def seconds(clock: Clock) -> Seconds:
    return Seconds(clock)


@pytest.fixture
def expiry(store: JobStore, seconds: Seconds) -> LeaseExpiry:
    return LeaseExpiry(store, lease=LEASE, clock=seconds)


def look_for(seconds: Seconds, expiry: LeaseExpiry, total: float) -> None:
    for _ in range(4):
        seconds.pass_by(total / 4)
        expiry.expire()


def test_the_jobs_of_a_worker_that_fell_silent_come_back(
    store: JobStore, seconds: Seconds, expiry: LeaseExpiry
):
    held = claim(store)
    look_for(seconds, expiry, LEASE)
    assert store.job(held.job_id).state == State.RUNNING

    look_for(seconds, expiry, LEASE)

    assert store.job(held.job_id).state == State.PENDING


def test_after_an_outage_workers_have_a_lease_s_time_to_renew(
    store: JobStore, seconds: Seconds, expiry: LeaseExpiry
):
    alive, dead = (claim(store, job_id) for job_id in queue(store, 2))
    seconds.pass_by(10 * LEASE)
    expiry.expire()
    assert {store.job(each.job_id).state for each in (alive, dead)} == {State.RUNNING}

    store.heartbeat("w1", {(alive.job_id, alive.token): 0.5}, lease=2 * LEASE)
    look_for(seconds, expiry, LEASE)

    assert store.job(alive.job_id).state == State.RUNNING
    assert store.job(dead.job_id).state == State.PENDING


def test_a_database_that_fails_again_begins_the_wait_anew(
    store: JobStore,
    seconds: Seconds,
    expiry: LeaseExpiry,
    monkeypatch: pytest.MonkeyPatch,
):
    held = claim(store)
    look_for(seconds, expiry, LEASE)

    def away() -> int:
        raise OperationalError("SELECT 1", {}, ConnectionError("away"))

    with monkeypatch.context() as patched:
        patched.setattr(store, "expire_leases", away)
        patched.setattr(store, "check_answers", away)
        for _ in range(3):
            seconds.pass_by(LEASE)
            with pytest.raises(OperationalError):
                expiry.expire()
    look_for(seconds, expiry, LEASE * 0.9)
    assert store.job(held.job_id).state == State.RUNNING

    look_for(seconds, expiry, LEASE)

    assert store.job(held.job_id).state == State.PENDING
