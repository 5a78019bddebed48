"""Jobs whose worker was lost: who is suspected, who is to blame."""

from jobs.dispatch import shards
from jobs.states import State
from jobs.store import JobStore
from tests.jobs.factories import LEASE, Clock, edit, inversion, queue, states


def lose_worker(store: JobStore, clock: Clock) -> None:
    clock.tick(LEASE + 1)
    assert store.expire_leases()
    store.take_due(100)


def test_all_that_a_lost_worker_had_in_hand_is_suspected_and_none_has_spent_an_attempt(
    store: JobStore, clock: Clock
) -> None:
    job_ids = queue(store, 3)
    store.claim(job_ids[:2], "w1", lease=LEASE)

    lose_worker(store, clock)

    assert store.suspects(job_ids) == job_ids[:2]
    assert [each.job_id for each in store.claim(job_ids, "w2", lease=LEASE, most_losses=0)] == [
        job_ids[2]
    ]
    [held] = store.claim(job_ids[:1], "w2", lease=LEASE)
    assert (held.attempt, held.losses) == (2, 1)


def test_errors_may_cost_as_many_attempts_as_without_the_loss(
    store: JobStore, clock: Clock
) -> None:
    [job_id] = queue(store)
    store.claim([job_id], "w1", lease=LEASE)
    lose_worker(store, clock)

    came_to = []
    for _ in range(3):
        [held] = store.claim([job_id], "w2", lease=LEASE)
        came_to.append(store.postpone(held, "storage", "away", delay=0))
        store.take_due(1)

    assert came_to == [State.PENDING, State.PENDING, State.FAILED]


def test_suspects_travel_alone(store: JobStore, clock: Clock) -> None:
    """Edits of one image, which else share a message."""
    job_ids = [each.job_id for each in store.submit([edit(prompt=p) for p in "abcd"])]
    store.take_due(10)
    store.claim(job_ids[:2], "w1", lease=LEASE)
    clock.tick(LEASE + 1)
    store.expire_leases()
    store.unqueue(job_ids)

    together = [[job.id for job in shard] for shard in shards(store.take_due(10))]

    assert sorted(together) == [[job_ids[0]], [job_ids[1]], job_ids[2:]]


def test_one_loss_never_ends_a_job(store: JobStore, clock: Clock) -> None:
    """It may be a neighbour's fault, however few attempts are allowed."""
    strict = JobStore(store._engine, max_attempts=1, clock=clock)
    [job_id] = queue(strict)
    strict.claim([job_id], "w1", lease=LEASE)
    lose_worker(strict, clock)
    assert states(strict, [job_id]) == [State.QUEUED]

    strict.claim([job_id], "w2", lease=LEASE)
    lose_worker(strict, clock)

    assert states(strict, [job_id]) == [State.FAILED]


def test_a_broken_device_counts_as_a_lost_worker(store: JobStore) -> None:
    [job_id] = queue(store)
    came_to = []
    for _ in range(3):
        [held] = store.claim([job_id], "w1", lease=LEASE)
        came_to.append(store.lose(held, "device_lost", "CUDA error"))
        store.take_due(1)

    assert came_to == [State.PENDING, State.PENDING, State.FAILED]
    assert store.job(job_id).error_code == "device_lost"


def test_a_retry_is_a_new_life(store: JobStore, clock: Clock) -> None:
    [job_id] = queue(store)
    for _ in range(3):
        store.claim([job_id], "w1", lease=LEASE)
        lose_worker(store, clock)
    assert states(store, [job_id]) == [State.FAILED]

    store.retry([job_id])
    store.take_due(1)

    assert store.suspects([job_id]) == []


def test_looking_at_claims_changes_nothing_and_tells_the_good_ones(
    store: JobStore, clock: Clock
) -> None:
    kept, cancelled = queue(store, 2)
    store.claim([kept, cancelled], "w1", lease=LEASE)
    store.cancel([cancelled])
    clock.tick(LEASE - 1)

    assert store.held([(kept, 1), (cancelled, 1), (kept, 0)]) == {(kept, 1)}

    clock.tick(2)
    assert store.expire_leases() == 1
    assert store.submit([inversion(0)])[0].state is State.PENDING
