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
from tests.worker.processes import in_the_middle, submit, succeeded

pytestmark = pytest.mark.slow


@pytest.fixture
def work(client: Client, start: Callable[..., Child]) -> Callable[[str], tuple[Child, UUID]]:
    """Starts a worker with a grace period, and gives it a job; it is in the middle of it."""

    def work(grace: str) -> tuple[Child, UUID]:
        start("control")
        worker = start("worker", "--devices", "cpu", EDICT_STOP_GRACE_SECONDS=grace)
        job_id = submit(client)
        eventually(lambda: in_the_middle(client.store, job_id))
        return worker, job_id

    return work


def assert_given_back(client: Client, job_id: UUID) -> None:
    job = client.store.job(job_id)
    assert job.state in (State.PENDING, State.QUEUED)
    assert job.attempts == 0
    assert client.store.live_workers(seen_within=60) == []


def test_without_a_grace_period_the_job_is_given_back_at_once_and_another_worker_ends_it(
    client: Client, start: Callable[..., Child], work: Callable[[str], tuple[Child, UUID]]
):
    worker, job_id = work("0")

    assert worker.stop(timeout=60) == 0

    assert_given_back(client, job_id)
    start("worker", "--devices", "cpu")
    eventually(lambda: succeeded(client.store, job_id))
    assert client.store.job(job_id).attempts == 1


def test_what_can_end_within_the_grace_period_ends(
    client: Client, work: Callable[[str], tuple[Child, UUID]]
):
    worker, job_id = work("3000")

    assert worker.stop(timeout=250) == 0

    job = client.store.job(job_id)
    assert (job.state, job.attempts) == (State.SUCCEEDED, 1)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGQUIT])
def test_a_second_signal_hurries(
    client: Client, work: Callable[[str], tuple[Child, UUID]], second: signal.Signals
):
    worker, job_id = work("3000")
    worker.terminate()
    # Two equal signals that arrive together are one.
    eventually(lambda: "worker.stopping" in worker.log_tail())

    os.kill(worker.pid, second)

    assert worker.wait(30) == 0
    assert_given_back(client, job_id)
