"""The store against itself: threads that crash, freeze, steer, and whose clocks differ.

Invariants: every job ends once, whatever happens to those that run it, and what is counted in
tallies is what there is (`test_store_machine` has them one by one).
"""

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import Engine, select

from jobs.errors import LeaseLost
from jobs.filters import JobFilter
from jobs.states import State
from jobs.store import JobStore
from jobs.store.base import utc_now
from jobs.tables import jobs
from tests.jobs.factories import RESULT, inversion

JOBS = 24
ROUNDS = 6
SKEWS = (-0.03, 0.0, 0.03)
"""Seconds by which the clocks of processes are wrong."""


@dataclass
class Turmoil:
    """Processes, as threads, whose clocks differ, and what they do until all jobs succeeded."""

    engine: Engine
    job_ids: list[UUID]
    batches: list[UUID]
    give_up: float

    def store(self, skew: float = 0.0) -> JobStore:
        wrong = timedelta(seconds=skew)
        return JobStore(self.engine, max_attempts=10_000, clock=lambda: utc_now() + wrong)

    def unfinished(self) -> bool:
        counts = self.store().counts()
        assert time.monotonic() < self.give_up, counts
        return counts[State.SUCCEEDED] < len(self.job_ids)

    def work(self, seed: int) -> list[UUID]:
        """Be killed (and forget) or freeze (and come back late), with leases that are short."""
        dice, finished = random.Random(seed), []  # noqa: S311
        store = self.store(dice.choice(SKEWS))
        while self.unfinished():
            wanted = dice.sample(self.job_ids, 8)
            for claimed in store.claim(wanted, f"w{seed}-{dice.random()}", lease=0.05):
                fate = dice.random()
                if fate < 0.2:
                    continue  # killed
                if fate < 0.3:
                    time.sleep(0.08)  # frozen past the lease
                with suppress(LeaseLost):
                    store.finish(claimed, RESULT)
                    finished.append(claimed.job_id)
        return finished

    def control(self, seed: int) -> list[UUID]:
        store = self.store(SKEWS[seed])
        while self.unfinished():
            store.expire_leases()
            store.fold_tallies()
            store.take_due(8)
            store.settle_batches()
            time.sleep(0.01)
        return []

    def steer(self, seed: int) -> list[UUID]:
        dice, store = random.Random(seed), self.store()  # noqa: S311
        for _ in range(ROUNDS):
            batch, some = dice.choice(self.batches), dice.sample(self.job_ids, 8)
            store.pause_batch(batch)
            store.cancel(some)
            store.submit(map(inversion, range(JOBS)), batch_id=batch)
            store.resume_batch(batch)
            store.retry_where(JobFilter(batch=batch))
            store.retry(some)
            time.sleep(0.02)
        return []


@pytest.mark.slow
def test_every_job_ends_once_among_threads_that_crash_freeze_and_steer(engine: Engine) -> None:
    store = JobStore(engine)
    job_ids = [each.job_id for each in store.submit(map(inversion, range(JOBS)))]
    batches = [store.open_batch().id for _ in range(2)]
    turmoil = Turmoil(engine, job_ids, batches, give_up=time.monotonic() + 120)

    with ThreadPoolExecutor(8) as pool:
        # Those that fail for a reason of their own come first.
        running = [pool.submit(turmoil.steer, seed) for seed in range(2)]
        running += [pool.submit(turmoil.control, seed) for seed in range(2)]
        running += [pool.submit(turmoil.work, seed) for seed in range(4)]
    finished = [job_id for each in running for job_id in each.result()]

    assert sorted(finished) == job_ids
    assert store.counts()[State.SUCCEEDED] == JOBS
    for batch in batches:
        members = store.count(JobFilter(batch=batch, states=(State.SUCCEEDED,)))
        assert +Counter(store.counts(batch)) == {State.SUCCEEDED: members}
    with engine.connect() as connection:
        assert not any(connection.scalars(select(jobs.c.paused)))
