"""The store against a simple model of it, driven at random, and against itself in real threads.

Invariants: no job is lost, none ends twice, none runs under two live leases, the counts add up,
and every change that is seen is one of `TRANSITIONS`.
"""

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, select

from jobs.errors import LeaseLost
from jobs.records import Claim
from jobs.states import ENDED, LIVE, TRANSITIONS, State
from jobs.store import JobStore
from jobs.tables import batches, jobs
from tests.jobs.factories import RESULT, Clock, inversion

LEASE = 10.0
MAX_ATTEMPTS = 2
WORKERS = st.sampled_from(["w1", "w2", "w3"])
ENDS = st.sampled_from(["finish", "fail", "later", "back"])
# Few jobs, so that much happens to each.
SOME = st.sets(st.integers(0, 2), min_size=1)


@dataclass
class Expected:
    """A row as the model has it."""

    id: UUID
    priority: int
    due_at: datetime
    state: State = State.PENDING
    attempts: int = 0
    losses: int = 0
    token: int = 0
    worker: str | None = None
    lease_until: datetime | None = None
    queued_at: datetime | None = None

    def end(self, state: State) -> None:
        self.state, self.lease_until = state, None

    def revive(self, now: datetime) -> None:
        self.state, self.due_at, self.attempts, self.losses = State.PENDING, now, 0, 0


@dataclass
class Crew:
    """What each worker process believes to hold. A crash forgets; a zombie remembers."""

    renewed: dict[str, set[tuple[UUID, int]]] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)


class StoreMachine(RuleBasedStateMachine):
    def __init__(self, engine: Engine) -> None:
        super().__init__()
        with engine.begin() as connection:
            connection.execute(jobs.delete())
            connection.execute(batches.delete())
        self.engine = engine
        self.clock = Clock()
        self.store = JobStore(engine, max_attempts=MAX_ATTEMPTS, clock=self.clock)
        self.batch = self.store.open_batch().id
        self.rows: dict[UUID, Expected] = {}
        self.by_image: dict[int, UUID] = {}
        self.crew = Crew()
        self.seen: dict[UUID, State] = {}

    def chosen(self, positions: set[int]) -> list[UUID]:
        ids = list(self.rows)
        return [ids[position] for position in sorted(positions) if position < len(ids)]

    @initialize(worker=WORKERS)
    def work_is_under_way(self, worker: str) -> None:
        for image in (0, 1):
            self.submit(image, priority=0, force=False)
        self.take_over(worker, "finish")

    @rule(image=st.integers(0, 1), priority=st.integers(0, 2), force=st.booleans())
    def submit(self, image: int, priority: int, force: bool) -> None:
        [made] = self.store.submit(
            [inversion(image)], batch_id=self.batch, priority=priority, force=force
        )
        known = None if force else self.by_image.get(image)
        assert made.created == (known is None)
        if known is None:
            self.rows[made.job_id] = Expected(made.job_id, priority, self.clock.now)
            if not force:
                self.by_image[image] = made.job_id
            return
        assert made.job_id == known
        if self.rows[known].state in (State.FAILED, State.CANCELLED):
            self.rows[known].revive(self.clock.now)

    @rule(limit=st.integers(1, 3))
    def take_due(self, limit: int) -> None:
        taken = self.store.take_due(limit)
        due = [
            row
            for row in self.rows.values()
            if row.state is State.PENDING and row.due_at <= self.clock.now
        ]
        due.sort(key=lambda row: (-row.priority, row.id))
        assert [each.id for each in taken] == [row.id for row in due[:limit]]
        for row in due[:limit]:
            row.state, row.queued_at = State.QUEUED, self.clock.now

    @rule(worker=WORKERS, positions=SOME)
    def claim(self, worker: str, positions: set[int]) -> None:
        claims = self.store.claim(self.chosen(positions), worker, lease=LEASE)
        rows = [self.rows[each] for each in self.chosen(positions)]
        free = [row for row in rows if row.state is State.QUEUED]
        for row in free:
            row.state, row.worker = State.RUNNING, worker
            row.token += 1
            row.attempts += 1
            row.lease_until = self.clock.now + timedelta(seconds=LEASE)
        got = {(each.job_id, each.token, each.attempt) for each in claims}
        assert got == {(row.id, row.token, row.attempts) for row in free}
        self.crew.claims += claims
        self.crew.renewed.setdefault(worker, set()).update((c.job_id, c.token) for c in claims)

    @rule(worker=WORKERS)
    def heartbeat(self, worker: str) -> None:
        believed = self.crew.renewed.get(worker, set())
        held = self.store.heartbeat(worker, dict.fromkeys(believed, 0.5), lease=LEASE)
        renewed = {
            each
            for each in believed
            if self.rows[each[0]].state is State.RUNNING
            and (self.rows[each[0]].worker, self.rows[each[0]].token) == (worker, each[1])
        }
        assert held == renewed
        for job_id, _ in renewed:
            self.rows[job_id].lease_until = self.clock.now + timedelta(seconds=LEASE)
        self.crew.renewed[worker] = renewed

    @rule(worker=WORKERS)
    def crash(self, worker: str) -> None:
        self.crew.renewed.pop(worker, None)

    @rule(position=st.integers(0, 4), end=ENDS)
    def end(self, position: int, end: str) -> None:
        """Any claim ever made may be used: live, lost, or of a worker that crashed."""
        if position < len(self.crew.claims):
            self.use(self.crew.claims[position], end)

    def use(self, claim: Claim, end: str) -> None:
        row = self.rows[claim.job_id]
        if row.state is not State.RUNNING or row.token != claim.token:
            with pytest.raises(LeaseLost):
                self._end(claim, end)
            return
        self._end(claim, end)
        if end in ("finish", "fail"):
            row.end(State.SUCCEEDED if end == "finish" else State.FAILED)
        elif end == "later" and claim.attempt - claim.losses >= MAX_ATTEMPTS:
            row.end(State.FAILED)
        else:
            row.end(State.PENDING)
            row.due_at = self.clock.now + timedelta(seconds=5 if end == "later" else 0)
            row.attempts -= end == "back"

    def _end(self, claim: Claim, end: str) -> Any:
        if end == "finish":
            return self.store.finish(claim, RESULT)
        if end == "fail":
            return self.store.fail(claim, "bad", "bad")
        if end == "later":
            return self.store.postpone(claim, "away", "away", delay=5)
        return self.store.give_back(claim)

    @rule(seconds=st.integers(1, 15))
    def tick(self, seconds: int) -> None:
        self.clock.tick(seconds)

    @rule()
    def expire_leases(self) -> None:
        lost = [
            row
            for row in self.rows.values()
            if row.lease_until and row.lease_until < self.clock.now
        ]
        assert self.store.expire_leases() == len(lost)
        for row in lost:
            row.losses += 1
            row.end(State.FAILED if row.losses >= MAX_ATTEMPTS else State.PENDING)
            row.due_at = self.clock.now

    @rule(worker=WORKERS, end=ENDS)
    def take_over(self, worker: str, end: str) -> None:
        """Whoever holds anything freezes past its lease, and wakes when somebody else has it."""
        frozen = self.crew.claims[:]
        self.tick(11)
        for step in (self.expire_leases, lambda: self.take_due(3)):
            step()
            self.every_change_is_a_transition()
        self.claim(worker, {0, 1, 2})
        for claim in frozen:
            self.use(claim, end)

    @rule(positions=SOME)
    def cancel(self, positions: set[int]) -> None:
        rows = [self.rows[each] for each in self.chosen(positions)]
        live = [row for row in rows if row.state in LIVE]
        assert self.store.cancel(self.chosen(positions)) == len(live)
        for row in live:
            row.end(State.CANCELLED)

    @rule(positions=SOME)
    def retry(self, positions: set[int]) -> None:
        rows = [self.rows[each] for each in self.chosen(positions)]
        ended = [row for row in rows if row.state in (State.FAILED, State.CANCELLED)]
        assert self.store.retry(self.chosen(positions)) == len(ended)
        for row in ended:
            row.revive(self.clock.now)

    @rule(older_than=st.integers(0, 10))
    def requeue(self, older_than: int) -> None:
        before = self.clock.now - timedelta(seconds=older_than)
        queued = [row for row in self.rows.values() if row.state is State.QUEUED]
        old = [row for row in queued if row.queued_at and row.queued_at < before]
        assert self.store.requeue_unclaimed("demo", older_than=older_than) == len(old)
        for row in old:
            row.state = State.PENDING

    @invariant()
    def rows_are_as_expected(self) -> None:
        with self.engine.connect() as connection:
            found = connection.execute(select(jobs)).all()
        assert {row.id for row in found} == self.rows.keys()
        for row in found:
            wanted = self.rows[row.id]
            assert (row.state, row.attempts, row.losses, row.token) == (
                wanted.state,
                wanted.attempts,
                wanted.losses,
                wanted.token,
            )
            assert row.lease_until == wanted.lease_until
            assert (row.lease_until is not None) == (row.state == State.RUNNING)
            assert (row.finished_at is not None) == (row.state in ENDED)
            assert (row.result is not None) == (row.state == State.SUCCEEDED)

    @invariant()
    def every_change_is_a_transition(self) -> None:
        for job_id, row in self.rows.items():
            before = self.seen.get(job_id, State.PENDING)
            assert row.state is before or row.state in TRANSITIONS[before]
            self.seen[job_id] = row.state

    @invariant()
    def counts_add_up(self) -> None:
        counts = self.store.counts(self.batch)
        assert counts == self.store.counts()
        assert +Counter(counts) == Counter(row.state for row in self.rows.values())


def test_the_store_behaves_like_its_model(engine: Engine) -> None:
    run_state_machine_as_test(
        lambda: StoreMachine(engine),
        settings=settings(
            max_examples=20,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


JOBS = 40


def test_every_job_ends_once_among_threads_that_crash_and_freeze(engine: Engine) -> None:
    """Workers are killed (they forget) or frozen (they come back late), leases are short."""
    store = JobStore(engine, max_attempts=10_000)
    job_ids = [each.job_id for each in store.submit(map(inversion, range(JOBS)))]
    give_up = time.monotonic() + 20

    def live() -> bool:
        assert time.monotonic() < give_up, store.counts()
        return any(store.counts()[state] for state in LIVE)

    def work(seed: int) -> list[UUID]:
        dice, finished = random.Random(seed), []  # noqa: S311
        while live():
            wanted = dice.sample(job_ids, 8)
            for held in store.claim(wanted, f"w{seed}-{dice.random()}", lease=0.05):
                fate = dice.random()
                if fate < 0.2:
                    continue  # killed
                if fate < 0.3:
                    time.sleep(0.08)  # frozen past the lease
                with suppress(LeaseLost):
                    store.finish(held, RESULT)
                    finished.append(held.job_id)
        return finished

    def control() -> list[UUID]:
        while live():
            store.expire_leases()
            store.take_due(8)
            time.sleep(0.01)
        return []

    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(control), pool.submit(control)]
        running += [pool.submit(work, seed) for seed in range(4)]
    finished = [job_id for each in running for job_id in each.result()]

    assert sorted(finished) == job_ids
    assert store.counts()[State.SUCCEEDED] == JOBS
