"""Who computes an inversion, and who waits for it."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID

from jobs.records import InversionClaim, StoredInversion
from jobs.states import State
from jobs.store import JobStore
from tests.jobs.factories import LEASE, Clock, edit, states

KEY = "inversions/ab/cd/abcd.safetensors"
DIGEST = edit().inversion_digest()
NUMBERS = StoredInversion(sha256="ab" * 32, size=7, fingerprint="cpu")


def take(
    store: JobStore, worker: str = "w1", *, alone: bool = False, replacing: int | None = None
) -> InversionClaim | None:
    return store.claim_inversion(KEY, DIGEST, worker, lease=LEASE, alone=alone, replacing=replacing)


def taken(store: JobStore, worker: str = "w1", *, alone: bool = False) -> InversionClaim:
    turn = take(store, worker, alone=alone)
    assert turn is not None
    return turn


def running(store: JobStore, *prompts: str) -> list[UUID]:
    """Edits of the image, claimed by a second worker."""
    submitted = store.submit([edit(prompt=prompt) for prompt in prompts])
    store.take_due(10)
    return [each.job_id for each in submitted]


def test_one_of_many_racing_workers_computes_it(store: JobStore) -> None:
    start = Barrier(8)

    def race(worker: int) -> InversionClaim | None:
        start.wait()
        return take(store, f"w{worker}")

    with ThreadPoolExecutor(8) as pool:
        turns = [turn for turn in pool.map(race, range(8)) if turn]

    assert [turn.token for turn in turns] == [1]


def test_what_is_stored_is_not_computed_again_unless_it_was_lost(store: JobStore) -> None:
    turn = taken(store)
    assert store.stored_token(KEY) is None

    assert store.inversion_stored(turn, NUMBERS)

    assert take(store, "w2") is None
    assert store.stored_token(KEY) == 1
    again = take(store, "w2", replacing=1)
    assert again is not None
    assert again.token == 2
    # Of two that found the object gone, one computes it.
    assert take(store, "w3", replacing=1) is None


def test_a_claim_lives_as_long_as_its_heartbeats(store: JobStore, clock: Clock) -> None:
    turn = taken(store)
    clock.tick(LEASE - 1)
    store.renew_inversions([turn], lease=LEASE)
    clock.tick(LEASE - 1)
    assert take(store, "w2") is None

    clock.tick(2)

    assert taken(store, "w2").token == 2
    assert not store.inversion_stored(turn, NUMBERS)
    assert not store.abandon_inversion(turn)
    store.renew_inversions([turn], lease=LEASE)
    assert store.stored_token(KEY) is None


def test_parked_jobs_have_lost_no_attempt_and_come_due_when_it_is_stored(store: JobStore) -> None:
    turn = taken(store)
    job_ids = running(store, "a cat", "a dog")
    claims = store.claim(job_ids, "w2", lease=LEASE)

    assert store.park(claims, KEY)

    assert states(store, job_ids) == [State.PENDING] * 2
    assert [store.job(job_id).attempts for job_id in job_ids] == [0, 0]
    assert store.take_due(10) == []
    store.inversion_stored(turn, NUMBERS)
    assert [job.id for job in store.take_due(10)] == job_ids


def test_parked_jobs_come_due_when_it_is_given_up(store: JobStore) -> None:
    turn = taken(store)
    job_ids = running(store, "a cat")
    store.park(store.claim(job_ids, "w2", lease=LEASE), KEY)

    store.abandon_inversion(turn)

    assert [job.id for job in store.take_due(10)] == job_ids
    assert taken(store, "w2").token == 2


def test_parked_jobs_come_due_when_its_worker_is_dead(store: JobStore, clock: Clock) -> None:
    taken(store)
    job_ids = running(store, "a cat")
    store.park(store.claim(job_ids, "w2", lease=LEASE), KEY)

    clock.tick(LEASE)

    assert [job.id for job in store.take_due(10)] == job_ids


def test_no_job_is_parked_for_what_nobody_computes(store: JobStore) -> None:
    store.inversion_stored(taken(store), NUMBERS)
    job_ids = running(store, "a cat")
    claims = store.claim(job_ids, "w2", lease=LEASE)

    assert not store.park(claims, KEY)

    assert states(store, job_ids) == [State.RUNNING]


def test_jobs_that_wait_for_other_reasons_are_left_alone(store: JobStore) -> None:
    turn = taken(store)
    [job_id] = running(store, "a cat")
    [held] = store.claim([job_id], "w2", lease=LEASE)
    store.postpone(held, "storage", "away", delay=60)

    store.inversion_stored(turn, NUMBERS)

    assert store.take_due(10) == []


def test_an_inversion_that_kills_its_workers_is_refused_until_somebody_asks_again(
    store: JobStore, clock: Clock
) -> None:
    """The first of its workers ran other things, too; that one is not held against it."""
    for alone in (False, True, True):
        assert not taken(store, alone=alone).guilty
        clock.tick(LEASE + 1)

    turn = taken(store)
    assert turn.guilty
    store.abandon_inversion(turn)
    [job_id] = running(store, "a cat")
    [held] = store.claim([job_id], "w1", lease=LEASE)
    store.fail(held, "worker_lost", "again and again")
    store.submit([edit(prompt="a bird")])
    still = taken(store)
    assert still.guilty
    store.abandon_inversion(still)

    store.retry([job_id])

    assert not taken(store).guilty
