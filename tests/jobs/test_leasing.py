"""Claims, leases and ends: who may write what."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError
from sqlalchemy import Engine, update

from jobs.errors import LeaseLost
from jobs.records import Claim
from jobs.results import Result
from jobs.states import State
from jobs.store import WORKER_LOST, JobStore
from jobs.store.leasing import NEWER_SECONDS
from jobs.tables import jobs
from tests.jobs.factories import LEASE, RESULT, Clock, claim, inversion, queue, states, submit

End = Callable[[JobStore, Claim], Any]
ENDS: dict[str, End] = {
    "finish": lambda store, held: store.finish(held, RESULT),
    "fail": lambda store, held: store.fail(held, "code", "message"),
    "postpone": lambda store, held: store.postpone(held, "code", "message", delay=5),
    "give_back": lambda store, held: store.give_back(held),
}


def test_a_claim_makes_a_queued_job_run(store: JobStore, clock: Clock) -> None:
    [job_id] = queue(store)

    [held] = store.claim([job_id], "w1", lease=LEASE)

    job = store.job(job_id)
    assert (held.job_id, held.token, held.attempt, held.spec) == (job_id, 1, 1, inversion())
    assert (job.state, job.worker, job.started_at) == (State.RUNNING, "w1", clock.now)
    assert job.progress == 0


def test_only_queued_jobs_can_be_claimed(store: JobStore) -> None:
    queued = queue(store, 4)
    store.claim(queued[:1], "w1", lease=LEASE)
    store.cancel(queued[1:2])
    pending = submit(store, 5)[4]

    claims = store.claim([*queued, *queued, pending], "w2", lease=LEASE)

    assert [held.job_id for held in claims] == queued[2:]


def test_one_of_many_racing_workers_gets_each_job(store: JobStore) -> None:
    job_ids = queue(store, 12)
    start = Barrier(8)

    def race(worker: int) -> list[Claim]:
        start.wait()
        return store.claim(job_ids, f"w{worker}", lease=LEASE)

    with ThreadPoolExecutor(8) as pool:
        claims = [held for taken in pool.map(race, range(8)) for held in taken]

    # Those that were locked by a racer that then took them are never taken twice.
    assert sorted(held.job_id for held in claims) == job_ids
    assert {held.token for held in claims} == {1}


def test_tokens_and_attempts_grow_with_each_claim(store: JobStore) -> None:
    first = claim(store)
    store.postpone(first, "storage", "away", delay=0)
    store.take_due(1)

    second = claim(store, first.job_id, "w2")

    assert (second.token, second.attempt) == (2, 2)


def test_a_job_that_cannot_be_read_fails_and_its_neighbours_run(
    store: JobStore, engine: Engine
) -> None:
    bad, good = queue(store, 2)
    _rewrite(engine, bad, {"base_prompt": 5})

    claims = store.claim([bad, good], "w1", lease=LEASE)

    assert [held.job_id for held in claims] == [good]
    assert (store.job(bad).state, store.job(bad).error_code) == (State.FAILED, "bad_spec")


@pytest.mark.parametrize(
    ("newer", "named"),
    [
        ({"version": 2}, "version: Input should be 1 (got 2)"),
        ({"kind": "novel"}, "'novel'"),
        ({"sampler": {"name": "exacter"}}, "got 'exacter'"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
    ],
    ids=["version", "kind", "choice", "field"],
)
def test_a_job_of_a_newer_version_waits_for_newer_workers_and_its_neighbours_run(
    store: JobStore, engine: Engine, clock: Clock, newer: dict[str, Any], named: str
) -> None:
    later, good = queue(store, 2)
    plain = inversion().model_dump(mode="json")
    _rewrite(engine, later, newer)

    # However often an old worker is asked
    for _ in range(5):
        store.take_due(2)
        claims = store.claim([later, good], "w1", lease=LEASE)
        assert [held.job_id for held in claims] in ([good], [])
        # It says why it waits, and spends no attempt
        waiting = store.job(later)
        assert (waiting.state, waiting.error_code) == (State.PENDING, "newer_spec")
        assert named in (waiting.error_message or "")
        assert waiting.attempts == 0
        assert store.take_due(2) == []
        clock.tick(NEWER_SECONDS + 1)

    # Until one comes that can read it
    _rewrite(engine, later, plain)
    store.take_due(2)
    assert claim(store, later).attempt == 1


def _rewrite(engine: Engine, job_id: UUID, changed: dict[str, Any]) -> None:
    spec = inversion().model_dump(mode="json") | changed
    with engine.begin() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(spec=spec))


def test_a_finished_job_has_its_result(store: JobStore, clock: Clock) -> None:
    held = claim(store)
    store.postpone(held, "storage", "away", delay=0)
    store.take_due(1)
    clock.tick(3)

    store.finish(claim(store, held.job_id), RESULT)

    job = store.job(held.job_id)
    assert (job.state, job.result, job.progress) == (State.SUCCEEDED, RESULT, 1)
    assert (job.finished_at, job.error_code, job.error_message) == (clock.now, None, None)


def test_a_failed_job_says_why(store: JobStore) -> None:
    held = claim(store)

    store.fail(held, "bad_image", "the file is truncated")

    job = store.job(held.job_id)
    assert (job.state, job.error_code) == (State.FAILED, "bad_image")
    assert job.error_message == "the file is truncated"


@pytest.mark.parametrize("text", ["NUL \0 here", "lone \udcff surrogate", "x" * 100_000])
def test_any_error_text_can_be_written(store: JobStore, text: str) -> None:
    postponed, failed = (claim(store, job_id) for job_id in queue(store, 2))

    store.postpone(postponed, "c" * 80, text, delay=0)
    store.fail(failed, "c" * 80, text)

    for job in (store.job(postponed.job_id), store.job(failed.job_id)):
        assert job.error_code == "c" * 50
        assert job.error_message
        assert job.error_message[:3] == text[:3]
        assert len(job.error_message) <= 4_000


@pytest.mark.parametrize("figure", [float("nan"), float("inf")])
def test_a_figure_that_is_no_number_is_refused_before_it_reaches_a_row(figure: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Result(outputs={}, model_revision="r", fingerprint="f", psnr=figure)


def test_a_postponed_job_is_due_again_after_its_delay(store: JobStore, clock: Clock) -> None:
    held = claim(store)

    assert store.postpone(held, "storage", "away", delay=60) is State.PENDING

    job = store.job(held.job_id)
    assert (job.state, job.attempts, job.error_code) == (State.PENDING, 1, "storage")
    assert job.progress is None
    assert store.take_due(1) == []
    clock.tick(60)
    assert [due.id for due in store.take_due(1)] == [held.job_id]


def test_the_last_attempt_is_not_postponed(store: JobStore) -> None:
    [job_id] = queue(store)
    for _ in range(2):
        store.postpone(claim(store, job_id), "storage", "away", delay=0)
        store.take_due(1)

    outcome = store.postpone(claim(store, job_id), "storage", "away", delay=0)

    assert outcome is store.job(job_id).state is State.FAILED
    assert store.job(job_id).error_message == "away (attempt 3, the last)"


def test_giving_back_costs_no_attempt(store: JobStore) -> None:
    held = claim(store)

    store.give_back(held)

    job = store.job(held.job_id)
    assert (job.state, job.attempts) == (State.PENDING, 0)
    store.take_due(1)
    assert claim(store, held.job_id).token == 2


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("how", ["cancelled", "expired", "taken over", "already ended"])
def test_nothing_is_written_with_a_lost_claim(
    store: JobStore, clock: Clock, end: str, how: str
) -> None:
    held = claim(store)
    if how == "cancelled":
        store.cancel([held.job_id])
    elif how == "already ended":
        store.finish(held, RESULT)
    else:
        clock.tick(LEASE + 1)
        store.expire_leases()
    if how == "taken over":
        store.take_due(1)
        claim(store, held.job_id, "w2")
    before = store.job(held.job_id)

    with pytest.raises(LeaseLost, match=f"{held.job_id}.*token 1"):
        ENDS[end](store, held)

    assert store.job(held.job_id) == before


def test_a_heartbeat_renews_only_what_its_worker_holds(store: JobStore, clock: Clock) -> None:
    mine, other, cancelled, untouched = queue(store, 4)
    for job_id in (mine, cancelled):
        claim(store, job_id, "w1")
    claim(store, other, "w2")
    stale = (mine, 0)
    store.cancel([cancelled])
    clock.tick(LEASE - 1)

    held = store.heartbeat(
        "w1",
        {(mine, 1): 0.25, (other, 1): 0.5, (cancelled, 1): 0.75, (untouched, 1): 1.0},
        lease=LEASE,
    )

    assert held == {(mine, 1)}
    assert store.heartbeat("w1", {stale: 0.9}, lease=LEASE) == frozenset()
    assert store.job(mine).progress == 0.25
    assert store.job(other).progress == 0
    clock.tick(2)
    assert store.expire_leases() == 1
    assert states(store, [mine, other]) == ["running", "pending"]


def test_a_heartbeat_without_jobs_is_a_sign_of_life_only(store: JobStore) -> None:
    claim(store)

    assert store.heartbeat("w1", {}, lease=LEASE) == frozenset()


def test_each_job_gets_its_own_progress(store: JobStore) -> None:
    job_ids = queue(store, 8)
    store.claim(job_ids, "w1", lease=LEASE)
    progress = {(job_id, 1): index / 8 for index, job_id in enumerate(job_ids)}

    store.heartbeat("w1", progress, lease=LEASE)

    assert {(job_id, 1): store.job(job_id).progress for job_id in job_ids} == progress


def test_a_lease_lasts_to_its_end_and_no_longer(store: JobStore, clock: Clock) -> None:
    held = claim(store)
    clock.tick(LEASE)
    assert store.expire_leases() == 0

    clock.tick(0.001)

    assert store.expire_leases() == 1
    job = store.job(held.job_id)
    assert (job.state, job.attempts, job.progress) == (State.PENDING, 1, None)


def test_a_job_that_kills_three_workers_fails_for_good(store: JobStore, clock: Clock) -> None:
    [job_id] = queue(store)
    for _ in range(3):
        claim(store, job_id)
        clock.tick(LEASE + 1)
        assert store.expire_leases() == 1
        store.take_due(1)

    job = store.job(job_id)
    assert (job.state, job.error_code, job.finished_at) == (
        State.FAILED,
        WORKER_LOST,
        clock.now,
    )
    assert job.error_message
    assert "3 workers" in job.error_message


def test_statements_over_many_jobs_never_wait_in_a_circle(store: JobStore, clock: Clock) -> None:
    job_ids = queue(store, 200)
    store.claim(job_ids, "w1", lease=LEASE)
    clock.tick(LEASE + 1)
    backwards = {(job_id, 1): 0.5 for job_id in reversed(job_ids)}
    start = Barrier(5)

    def at_once(what: Callable[[], Any]) -> Any:
        start.wait()
        return [what() for _ in range(5)]

    with ThreadPoolExecutor(5) as pool:
        done = [
            pool.submit(at_once, lambda: store.heartbeat("w1", backwards, lease=LEASE)),
            pool.submit(at_once, store.expire_leases),
            pool.submit(at_once, lambda: store.cancel(job_ids[::-1])),
            pool.submit(at_once, lambda: store.retry(job_ids[100:] + job_ids[:100])),
            pool.submit(at_once, lambda: store.submit(map(inversion, range(200)))),
        ]
    for each in done:
        each.result()
    assert sum(store.counts().values()) == 200
