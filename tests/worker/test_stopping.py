"""Workers that are told to stop: they lose nothing, and nobody waits for a lease to end."""

import os
import signal
from collections.abc import Callable
from uuid import UUID

import pytest

from jobs.processes import Child
from jobs.states import State
from producer.client import Client
from tests.pipeline import eventually
from tests.worker.processes import in_the_middle, submit

pytestmark = pytest.mark.slow


def start_worker(start: Callable[..., Child], alias: str, grace: str) -> Child:
    return start(
        *("worker", "--devices", "cpu"),
        alias=alias,
        EDICT_STOP_GRACE_SECONDS=grace,
        EDICT_WORKER_SHARDS="1",
    )


def assert_given_back(client: Client, *job_ids: UUID) -> None:
    for job_id in job_ids:
        job = client.store.job(job_id)
        assert job.state in (State.PENDING, State.QUEUED)
        assert job.attempts == 0
    assert client.store.live_workers(seen_within=60) == []


def test_a_job_is_given_back_at_once_and_ends_within_the_grace_period_of_another_worker(
    client: Client, start: Callable[..., Child]
):
    start("control")
    hasty = start_worker(start, "hasty", grace="0")
    job_id = submit(client)
    eventually(lambda: in_the_middle(client.store, job_id))

    assert hasty.stop(timeout=60) == 0

    assert_given_back(client, job_id)
    patient = start_worker(start, "patient", grace="3000")
    eventually(lambda: in_the_middle(client.store, job_id))
    assert patient.stop(timeout=250) == 0
    job = client.store.job(job_id)
    assert (job.state, job.attempts) == (State.SUCCEEDED, 1)


def test_a_second_signal_hurries(client: Client, start: Callable[..., Child]):
    seconds = [signal.SIGTERM, signal.SIGQUIT]
    workers = [start_worker(start, number.name, grace="3000") for number in seconds]
    # One message each: whoever takes another job takes one that is in nobody's hands.
    job_ids = [submit(client, seed) for seed in range(len(workers))]
    eventually(lambda: all(in_the_middle(client.store, job_id) for job_id in job_ids))
    for worker in workers:
        worker.terminate()
    # Two equal signals that arrive together are one.
    eventually(lambda: all("worker.stopping" in worker.log_tail() for worker in workers))

    for worker, second in zip(workers, seconds, strict=True):
        os.kill(worker.pid, second)

    assert [worker.wait(30) for worker in workers] == [0, 0]
    assert_given_back(client, *job_ids)
