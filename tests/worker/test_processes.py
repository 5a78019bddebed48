"""Real worker processes, really killed."""

import os
import signal
from collections.abc import Callable

import pytest

from jobs.dispatch import _send, queue_length
from jobs.keys import sha256
from jobs.lanes import INTERACTIVE_PRIORITY
from jobs.messages import queue_name
from jobs.processes import Child
from jobs.records import DueJob
from jobs.settings import Settings
from jobs.specs import InversionSpec, ModelRef, ReconstructionSpec, Source
from jobs.states import State
from jobs.store.base import utc_now
from producer.waiting import why_waiting
from tests.pipeline import eventually, is_alive
from tests.worker.conftest import FEW_STEPS, TINY_MODEL, Site, picture
from tests.worker.processes import in_the_middle, submit, succeeded

pytestmark = pytest.mark.slow


def test_jobs_whose_messages_were_lost_are_announced_again(site: Site):
    """Comes first of those that share a pipeline: nobody takes a message yet."""
    assert site.supervisor.pid is None
    job_ids = [submit(site.client, seed, FEW_STEPS) for seed in range(2)]
    assert queue_length(site.client.app, queue_name(TINY_MODEL)) == len(job_ids)
    with site.client.app.connection_for_write() as connection:
        connection.default_channel.client.flushall()

    site.start()

    for job_id in job_ids:
        eventually(lambda: succeeded(site.store, job_id))  # noqa: B023
        made = site.store.job(job_id).result
        assert made.exact
        assert made.fingerprint.endswith(";auxiliary_batch=2")  # as the process is told


def test_a_killed_process_is_replaced_its_sibling_goes_on_and_its_job_succeeds_once(site: Site):
    before, store = site.workers(), site.store
    job_id = submit(site.client)
    eventually(lambda: in_the_middle(store, job_id))
    [victim] = [worker for worker in before if worker.name == store.job(job_id).worker]
    [sibling] = [worker for worker in before if worker is not victim]

    os.kill(victim.pid, signal.SIGKILL)

    eventually(lambda: succeeded(store, job_id))
    job = store.job(job_id)
    assert job.attempts == 2
    assert job.result.exact
    assert job.worker != victim.name
    assert site.client.objects.size(job.result.outputs["image"].key)
    names = {worker.name for worker in site.workers()}
    assert sibling.name in names
    assert victim.name not in names
    assert site.supervisor.is_running


def test_an_interactive_job_overtakes_bulk_work_that_holds_every_thread(site: Site):
    store, held = site.store, len(site.workers()) * site.shards
    bulk = [submit(site.client, seed) for seed in range(20, 22 + held)]
    eventually(lambda: sum(in_the_middle(store, each) for each in bulk) == held)

    urgent = submit(site.client, 99, FEW_STEPS, priority=INTERACTIVE_PRIORITY)
    eventually(lambda: succeeded(store, urgent))

    assert not any(succeeded(store, each) for each in bulk)
    eventually(lambda: any(succeeded(store, each) for each in bulk))
    site.client.cancel(bulk)


def test_a_job_of_a_revision_that_nobody_serves_waits_and_says_so(site: Site):
    client, served = site.client, site.workers()
    source = client.sources.upload(picture(), "picture")
    pinned = [
        InversionSpec(
            source=source,
            model=ModelRef(name=TINY_MODEL, revision=revision),
            sampler=FEW_STEPS,
        )
        for revision in (served[0].model_revision, "another")
    ]

    ours, theirs = (each.job_id for each in client.submit(pinned))
    eventually(lambda: succeeded(client.store, ours))

    waiting = client.store.job(theirs)
    assert (waiting.state, waiting.attempts) == (State.QUEUED, 0)
    reason = why_waiting(waiting, served, utc_now())
    assert f"no live worker serves {TINY_MODEL}@another" in reason
    assert [worker.lanes for worker in served] == [4, 4]


def test_a_message_delivered_again_runs_nothing_again(site: Site):
    client, again = site.client, lambda: _send(site.client.app, [DueJob(job_id, TINY_MODEL, "")])
    assert site.workers()
    job_id = submit(client, 30, FEW_STEPS)
    for _ in range(5):
        again()

    eventually(lambda: succeeded(client.store, job_id))
    finished = client.store.job(job_id)
    again()
    second = submit(client, 31, FEW_STEPS)
    eventually(lambda: succeeded(client.store, second))

    assert client.store.job(job_id) == finished
    assert finished.attempts == 1


def test_a_bad_image_reaches_its_row_and_not_its_neighbour(site: Site):
    """The door was bypassed: somebody wrote rubbish under the source's key."""
    client = site.client
    assert site.workers()
    client.objects.put("sources/bad.png", b"rubbish", "image/png")
    bad = ReconstructionSpec(
        source=Source(uri=client.objects.uri("sources/bad.png"), sha256=sha256(b"rubbish")),
        model=client.model(),
        sampler=FEW_STEPS,
    )

    [spoilt] = client.submit([bad])
    good = submit(client, 40, FEW_STEPS)

    eventually(lambda: succeeded(client.store, good))
    job = eventually(lambda: (j := client.store.job(spoilt.job_id)).state == State.FAILED and j)
    assert job.error_code == "unreadable_image"
    assert job.attempts == 1


def test_killing_the_supervisor_stops_its_device_processes(site: Site):
    """Comes last of those that share a pipeline: nothing of it works after."""
    workers = site.workers()

    site.supervisor.kill()

    eventually(lambda: not any(is_alive(worker.pid) for worker in workers))


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
