"""The store against a simple model of it, driven at random.

Invariants: no job is lost, none ends twice, none runs under two live leases, a paused job does not
start, the counts and the tallies add up, and every change that is seen is one of `TRANSITIONS`.
Clocks jump both ways, workers crash and freeze, and whoever pauses a batch may die between two
statements.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
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
from jobs.filters import JobFilter
from jobs.records import Claim
from jobs.states import ENDED, LIVE, TRANSITIONS, State
from jobs.store import JobStore, pausing, steering
from jobs.tables import batches as batch_rows
from jobs.tables import jobs
from tests.jobs.factories import RESULT, Clock, inversion
from tests.jobs.store_model import Crew, Expected, Pause

LEASE = 10.0
MAX_ATTEMPTS = 2
WORKERS = st.sampled_from(["w1", "w2", "w3"])
ENDS = st.sampled_from(["finish", "fail", "later", "back"])
# Few jobs, so that much happens to each.
SOME = st.sets(st.integers(0, 2), min_size=1)
BATCHES = st.integers(0, 1)


class Died(Exception):
    """The process ended here."""


class StoreMachine(RuleBasedStateMachine):
    def __init__(self, engine: Engine) -> None:
        super().__init__()
        with engine.begin() as connection:
            connection.execute(jobs.delete())
            connection.execute(batch_rows.delete())
        self.engine = engine
        self.clock = Clock()
        self.store = JobStore(engine, max_attempts=MAX_ATTEMPTS, clock=self.clock)
        self.batches = [Pause(self.store.open_batch().id) for _ in range(2)]
        self.rows: dict[UUID, Expected] = {}
        self.by_image: dict[int, UUID] = {}
        self.crew = Crew()
        self.seen: dict[UUID, State] = {}

    def held_by_any(self, job_id: UUID) -> bool:
        return any(each.wished and job_id in each.members for each in self.batches)

    def chosen(self, positions: set[int]) -> list[UUID]:
        ids = list(self.rows)
        return [ids[position] for position in sorted(positions) if position < len(ids)]

    @initialize(worker=WORKERS)
    def work_is_under_way(self, worker: str) -> None:
        for image in (0, 1):
            self.submit(image, priority=0, force=False, batch=image)
        self.take_over(worker, "finish")

    @rule(image=st.integers(0, 1), priority=st.integers(0, 2), force=st.booleans(), batch=BATCHES)
    def submit(self, image: int, priority: int, force: bool, batch: int) -> None:
        into = self.batches[batch]
        [made] = self.store.submit(
            [inversion(image)], batch_id=into.id, priority=priority, force=force
        )
        known = None if force else self.by_image.get(image)
        assert made.created == (known is None)
        if known is None:
            self.rows[made.job_id] = Expected(made.job_id, priority, self.clock.now)
            if not force:
                self.by_image[image] = made.job_id
        else:
            assert made.job_id == known
            self.submit_again(self.rows[known], priority)
        into.members.add(made.job_id)
        if into.wished and self.rows[made.job_id].state is not State.SUCCEEDED:
            self.rows[made.job_id].hold()

    def submit_again(self, row: Expected, priority: int) -> None:
        if row.state in (State.FAILED, State.CANCELLED):
            row.revive(self.clock.now)
            row.priority = priority
        else:
            row.urge(priority)

    @rule(batch=BATCHES, wish=st.booleans(), pieces=st.integers(0, 4))
    def pause_or_resume(self, batch: int, wish: bool, pieces: int) -> None:
        """Whoever wishes it dies after some pieces, or comes to the end."""
        paused = self.batches[batch]
        paused.wished, paused.settled = wish, False
        with dying_after(self.store, pieces), suppress(Died):
            change = self.store.pause_batch if wish else self.store.resume_batch
            change(paused.id)
        self.settle_some(paused, pieces)

    @rule()
    def settle(self) -> None:
        unsettled = [each for each in self.batches if not each.settled]
        assert self.store.settle_batches() == len(unsettled)
        for each in unsettled:
            self.settle_some(each, 1_000)

    def settle_some(self, batch: Pause, pieces: int) -> None:
        """A piece is one row here; the one that finds none is the last."""
        rows = [self.rows[each] for each in sorted(batch.members)]
        if batch.wished:
            rows = [row for row in rows if row.state is not State.SUCCEEDED]
        else:
            rows = [row for row in rows if row.paused and not self.held_by_any(row.id)]
        for row in rows[:pieces]:
            if batch.wished:
                row.hold()
            else:
                row.paused = False
        batch.settled = pieces > len(rows)

    @rule(limit=st.integers(1, 3))
    def take_due(self, limit: int) -> None:
        taken = self.store.take_due(limit)
        due = [
            row
            for row in self.rows.values()
            if row.state is State.PENDING and not row.paused and row.due_at <= self.clock.now
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
        row.successes += end == "finish"
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

    @rule(seconds=st.integers(-15, 15) | st.sampled_from([-3_600, 3_600]))
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

    @rule(batch=BATCHES, state=st.sampled_from(State))
    def cancel_all_of(self, batch: int, state: State) -> None:
        rows = [self.rows[each] for each in self.batches[batch].members]
        live = [row for row in rows if row.state in LIVE and row.state is state]
        which = JobFilter(batch=self.batches[batch].id, states=(state,))
        assert self.store.cancel_where(which) == len(live)
        for row in live:
            row.end(State.CANCELLED)

    @rule(batch=BATCHES)
    def retry_all_of(self, batch: int) -> None:
        rows = [self.rows[each] for each in self.batches[batch].members]
        ended = [row for row in rows if row.state in (State.FAILED, State.CANCELLED)]
        assert self.store.retry_where(JobFilter(batch=self.batches[batch].id)) == len(ended)
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
            assert (row.priority, row.paused) == (wanted.priority, wanted.paused)
            assert wanted.successes == (row.state == State.SUCCEEDED)
            assert not (row.paused and row.state == State.QUEUED)
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
    def a_pause_holds_all_of_its_jobs_and_no_others(self) -> None:
        if all(each.settled for each in self.batches):
            for job_id, row in self.rows.items():
                assert row.state is State.SUCCEEDED or row.paused == self.held_by_any(job_id)

    @invariant()
    def counts_add_up(self) -> None:
        assert +Counter(self.store.counts()) == Counter(row.state for row in self.rows.values())
        for each in self.batches:
            states = Counter(self.rows[job_id].state for job_id in each.members)
            assert +Counter(self.store.counts(each.id)) == states

    @invariant()
    def tallies_are_what_counting_gives(self) -> None:
        for each in self.batches:
            which = JobFilter(batch=each.id, states=(State.FAILED,))
            assert self.store.failures_of(each.id) == self.store.codes(which)

    @rule()
    def fold_tallies(self) -> None:
        self.store.fold_tallies()
        assert self.store.fold_tallies() == 0


@contextmanager
def dying_after(store: JobStore, pieces: int) -> Iterator[None]:
    """Whoever settles a batch dies after so many transactions."""
    settle, left = store._settle_piece, iter(range(pieces))

    def settle_or_die(*arguments: Any) -> Any:
        if next(left, None) is None:
            raise Died
        return settle(*arguments)

    store._settle_piece = settle_or_die  # type: ignore[method-assign]
    try:
        yield
    finally:
        store._settle_piece = settle  # type: ignore[method-assign]


@pytest.mark.slow
def test_the_store_behaves_like_its_model(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    # A row a transaction: there is much to die between.
    monkeypatch.setattr(pausing, "PAUSE_CHUNK", 1)
    monkeypatch.setattr(steering, "STEER_CHUNK", 1)
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
