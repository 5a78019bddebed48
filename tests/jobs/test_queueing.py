"""From pending to queued and back, and the list of workers."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from threading import Barrier

from sqlalchemy import Engine

from jobs.records import DueJob, Worker
from jobs.specs import ModelRef
from jobs.states import State
from jobs.store import JobStore
from tests.jobs.factories import LEASE, Clock, claim, inversion, queue, states, submit


def test_due_jobs_come_most_urgent_first_then_oldest(store: JobStore) -> None:
    bulk = submit(store, 3)
    [urgent] = [each.job_id for each in store.submit([inversion(9)], priority=10)]

    assert [due.id for due in store.take_due(2)] == [urgent, bulk[0]]
    assert [due.id for due in store.take_due(10)] == bulk[1:]
    assert store.take_due(10) == []
    assert states(store, [urgent, *bulk]) == ["queued"] * 4


def test_a_due_job_says_what_the_dispatcher_needs(store: JobStore, clock: Clock) -> None:
    spec = inversion(model=ModelRef(name="/models/sd", revision="abc"))
    [submitted] = store.submit([spec], priority=7)

    label, digest = "/models/sd@abc", spec.inversion_digest()
    assert store.take_due(1) == [DueJob(submitted.job_id, label, digest, 7, clock.now)]
    assert store.models_queued() == [label]


def test_takers_at_the_same_time_take_different_jobs(store: JobStore) -> None:
    job_ids = submit(store, 100)
    start = Barrier(4)

    def take(_: int) -> list[DueJob]:
        start.wait()
        taken: list[DueJob] = []
        while due := store.take_due(7):
            assert len(due) <= 7
            taken += due
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = [job.id for jobs in pool.map(take, range(4)) for job in jobs]

    assert sorted(taken) == job_ids


def test_unsent_jobs_are_pending_again(store: JobStore) -> None:
    first, second = queue(store, 2)
    claim(store, second)

    assert store.unqueue([first, second]) == 1

    assert states(store, [first, second]) == ["pending", "running"]


def test_only_old_unclaimed_jobs_of_the_model_are_queued_again(
    store: JobStore, clock: Clock
) -> None:
    [old] = queue(store)
    clock.tick(20)
    recent, other = (
        each.job_id
        for each in store.submit([inversion(1), inversion(2, model=ModelRef(name="other"))])
    )
    store.take_due(9)

    assert store.requeue_unclaimed("demo", older_than=10) == 1

    assert states(store, [old, recent, other]) == ["pending", "queued", "queued"]
    assert sorted(store.models_queued()) == ["demo", "other"]


def test_looking_does_not_wait_for_a_writer(store: JobStore, engine: Engine) -> None:
    [job_id] = submit(store, 1)

    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE jobs SET priority = 1")
        seen = store.job(job_id)
        counts = store.counts()

    assert seen.priority == 0
    assert counts[State.PENDING] == 1


def test_live_workers_are_those_that_gave_a_sign_of_life(store: JobStore, clock: Clock) -> None:
    worker = Worker("w1", "host", 42, "cpu:0", "demo", "r1", clock.now, clock.now)
    store.register_worker(worker)
    store.register_worker(replace(worker, name="w2"))
    clock.tick(10)

    store.heartbeat("w1", {}, lease=LEASE)

    assert store.live_workers(seen_within=5) == [replace(worker, seen_at=clock.now)]
    assert len(store.live_workers(seen_within=10)) == 2
    store.remove_worker("w1")
    assert store.live_workers(seen_within=5) == []


def test_a_restarted_worker_may_bear_the_name_of_one_that_was_killed(
    store: JobStore, clock: Clock
) -> None:
    killed = Worker("w1", "host", 42, "cpu:0", "demo", "r1", clock.now, clock.now)
    store.register_worker(killed)
    later = clock.now + timedelta(seconds=1)
    successor = replace(killed, pid=43, started_at=later, seen_at=later)

    store.register_worker(successor)

    assert store.live_workers(seen_within=60) == [successor]


def test_the_list_forgets_those_that_died_long_ago(store: JobStore, clock: Clock) -> None:
    worker = Worker("dead", "host", 42, "cpu:0", "demo", "r1", clock.now, clock.now)
    store.register_worker(worker)
    store.register_worker(replace(worker, name="alive"))
    clock.tick(100)
    store.heartbeat("alive", {}, lease=LEASE)
    clock.tick(1)

    assert store.forget_workers(unseen_for=timedelta(seconds=50)) == 1

    assert [each.name for each in store.workers()] == ["alive"]
