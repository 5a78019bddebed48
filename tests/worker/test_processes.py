"""Real worker processes, really killed."""

import os
import signal
from collections.abc import Callable

import pytest

from jobs.lanes import INTERACTIVE_PRIORITY
from jobs.objects import ObjectStore
from jobs.processes import Child
from jobs.settings import Settings
from jobs.specs import InversionSpec, ModelRef, ReconstructionSpec, Source
from jobs.states import State
from jobs.store.base import utc_now
from producer.client import Client
from producer.waiting import why_waiting
from tests.pipeline import eventually, is_alive
from tests.worker.conftest import FEW_STEPS, TINY_MODEL, picture
from tests.worker.processes import LONG, in_the_middle, submit, succeeded, worker_of

pytestmark = pytest.mark.slow


def test_a_job_whose_worker_is_killed_in_its_middle_succeeds_once(
    client: Client, start: Callable[..., Child]
):
    start("control")
    start("worker", "--devices", "cpu")
    store = client.store
    job_id = submit(client)
    eventually(lambda: in_the_middle(store, job_id))
    victim = worker_of(store)

    os.kill(victim.pid, signal.SIGKILL)

    eventually(lambda: succeeded(store, job_id))
    job = store.job(job_id)
    assert job.attempts == 2
    assert job.result.exact
    assert job.worker != victim.name
    assert client.objects.size(job.result.outputs["image"].key)


def test_killing_the_supervisor_stops_its_device_processes(
    client: Client, start: Callable[..., Child]
):
    supervisor = start("worker", "--devices", "cpu,cpu")
    workers = eventually(
        lambda: len(found := client.store.live_workers(seen_within=10)) == 2 and found
    )

    supervisor.kill()

    eventually(lambda: not any(is_alive(worker.pid) for worker in workers))


def test_a_dead_device_process_is_replaced_and_its_sibling_goes_on(
    client: Client, start: Callable[..., Child]
):
    worker = start("worker", "--devices", "cpu,cpu")
    victim, sibling = eventually(
        lambda: len(found := client.store.live_workers(seen_within=10)) == 2 and found
    )

    os.kill(victim.pid, signal.SIGKILL)

    def replaced() -> bool:
        names = {each.name for each in client.store.live_workers(seen_within=3)}
        return len(names - {victim.name}) == 2 and sibling.name in names

    eventually(replaced)
    assert is_alive(sibling.pid)
    assert worker.is_running


def test_jobs_survive_a_redis_that_is_emptied(
    client: Client, start: Callable[..., Child], redis_url: str
):
    job_ids = [submit(client, seed) for seed in range(2)]
    with client.app.connection_for_write() as connection:
        connection.default_channel.client.flushall()

    start("control")
    start("worker", "--devices", "cpu")

    for job_id in job_ids:
        eventually(lambda: succeeded(client.store, job_id))  # noqa: B023


def test_an_interactive_job_overtakes_bulk_work_that_holds_every_thread(
    client: Client, settings: Settings, start: Callable[..., Child]
):
    bulk = [submit(client, seed) for seed in range(settings.worker_shards + 2)]
    start("worker", "--devices", "cpu")
    eventually(lambda: all(in_the_middle(client.store, each) for each in bulk[:-2]))

    urgent = submit(client, seed=99, priority=INTERACTIVE_PRIORITY)
    eventually(lambda: succeeded(client.store, urgent))

    assert not any(succeeded(client.store, each) for each in bulk)
    eventually(lambda: any(succeeded(client.store, each) for each in bulk))


def test_a_job_of_a_revision_that_nobody_serves_waits_and_says_so(
    client: Client, start: Callable[..., Child]
):
    start("worker", "--devices", "cpu")
    served = worker_of(client.store)
    source = client.sources.upload(picture(), "picture")
    pinned = [
        InversionSpec(
            source=source,
            model=ModelRef(name=TINY_MODEL, revision=revision),
            sampler=FEW_STEPS,
        )
        for revision in (served.model_revision, "another")
    ]

    ours, theirs = (each.job_id for each in client.submit(pinned))
    eventually(lambda: succeeded(client.store, ours))

    waiting = client.store.job(theirs)
    assert (waiting.state, waiting.attempts) == (State.QUEUED, 0)
    reason = why_waiting(waiting, [served], utc_now())
    assert f"no live worker serves {TINY_MODEL}@another" in reason
    assert served.lanes == 4


def test_a_message_delivered_again_runs_nothing_again(client: Client, start: Callable[..., Child]):
    from jobs.dispatch import _send
    from jobs.records import DueJob

    start("worker", "--devices", "cpu")
    job_id = submit(client)
    for _ in range(5):
        _send(client.app, [DueJob(job_id, TINY_MODEL, "")])

    eventually(lambda: succeeded(client.store, job_id))
    finished = client.store.job(job_id)
    _send(client.app, [DueJob(job_id, TINY_MODEL, "")])
    second = submit(client, seed=1)
    eventually(lambda: succeeded(client.store, second))

    assert client.store.job(job_id) == finished
    assert finished.attempts == 1


def test_a_model_that_is_not_there_stops_the_worker_with_a_sentence(
    settings: Settings, start: Callable[..., Child]
):
    worker = start("worker", "--devices", "cpu", "--model", "/nowhere/at-all")

    assert worker.wait(60) not in (None, 0)
    assert "/nowhere/at-all" in worker.log_tail()


def test_a_device_that_is_not_there_is_refused(start: Callable[..., Child]):
    worker = start("worker", "--devices", "99")

    assert worker.wait(30) not in (None, 0)
    assert "device '99' is not there" in worker.log_tail()
    assert "Traceback" not in worker.log_tail(200)


def test_a_bad_image_reaches_its_row_and_not_its_neighbour(
    client: Client, objects: ObjectStore, start: Callable[..., Child]
):
    """The door was bypassed: somebody wrote rubbish under the source's key."""
    objects.put("sources/bad.png", b"rubbish", "image/png")
    from jobs.keys import sha256

    bad = ReconstructionSpec(
        source=Source(uri=objects.uri("sources/bad.png"), sha256=sha256(b"rubbish")),
        model=client.model(),
        sampler=LONG,
    )
    [spoilt] = client.submit([bad])
    good = submit(client)

    start("worker", "--devices", "cpu")

    eventually(lambda: succeeded(client.store, good))
    job = eventually(lambda: (j := client.store.job(spoilt.job_id)).state == State.FAILED and j)
    assert job.error_code == "unreadable_image"
    assert job.attempts == 1
