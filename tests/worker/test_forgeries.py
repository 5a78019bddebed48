"""Messages that somebody forged, and workers."""

from contextlib import closing
from uuid import uuid4

import pytest
from redis import Redis

from jobs.dispatch import queue_length
from jobs.lanes import INTERACTIVE_PRIORITY, Lane
from jobs.messages import RUN_SHARD, queue_name
from jobs.specs import EditSpec, ModelRef
from jobs.states import ENDED, State
from tests.pipeline import eventually
from tests.worker.conftest import FEW_STEPS, TINY_MODEL, Bench, Site, picture


def test_a_forged_task_asks_at_most_for_a_job_that_is_due(bench: Bench):
    """Ended, paused, pending, of another model, or of nobody: named in a message, they stay."""
    ended, due, waiting = bench.inversion(), bench.edit("a dog"), bench.edit("a cat")
    [done] = bench.run(ended)
    [queued] = bench.queued(due)
    [pending] = [each.job_id for each in bench.store.submit([waiting])]
    before = [bench.store.job(job_id) for job_id in (done.id, pending)]

    bench.runner.run([done.id, pending, uuid4(), queued])

    assert [bench.store.job(job_id) for job_id in (done.id, pending)] == before
    assert bench.store.job(queued).state == State.SUCCEEDED


@pytest.mark.slow
def test_garbage_in_the_queues_costs_no_worker_and_no_job(site: Site):
    # Given two workers
    before = {worker.name for worker in site.workers()}
    url = site.client.settings.redis_url.get_secret_value()

    # When their queues are filled with what is no message, and a job is submitted
    with closing(Redis.from_url(url)) as redis:
        for lane in Lane:
            for garbage in (b"no JSON", b"[]", b"1", b"{}", b"[" * 100_000) * 3:
                redis.rpush(queue_name(TINY_MODEL, lane), garbage)
    source = site.client.sources.upload(picture(), "a picture")
    spec = EditSpec(
        source=source, model=ModelRef(name=TINY_MODEL), sampler=FEW_STEPS, edit_prompt="a dog"
    )
    [made] = site.client.submit([spec])
    eventually(lambda: site.store.job(made.job_id).state in ENDED)

    # Then it succeeded at its first attempt, and the workers are the same
    job = site.store.job(made.job_id)
    assert (job.state, job.attempts) == (State.SUCCEEDED, 1)
    assert {worker.name for worker in site.workers()} == before

    # And nothing of it stays, for these workers to stumble over later
    queues = [queue_name(TINY_MODEL, lane) for lane in Lane]
    eventually(lambda: not any(queue_length(site.client.app, queue) for queue in queues))


@pytest.mark.slow
def test_a_message_of_a_newer_version_is_refused_and_its_job_announced_again(site: Site):
    # Given a job in each lane whose only message is of a version that these workers do not know
    site.workers()
    log = site.supervisor.log
    assert log is not None
    before = len(log.read_text())

    def said() -> str:
        return log.read_text()[before:]

    source = site.client.sources.upload(picture(), "a picture")
    waiting = []
    for lane, priority in ((Lane.BULK, 0), (Lane.INTERACTIVE, INTERACTIVE_PRIORITY)):
        spec = EditSpec(
            source=source,
            model=ModelRef(name=TINY_MODEL),
            sampler=FEW_STEPS,
            edit_prompt=f"a dog of {lane}",
        )
        message = {"version": 2, "jobs": ["of another form"]}
        site.client.app.send_task(RUN_SHARD, args=[message], queue=queue_name(TINY_MODEL, lane))
        [made] = site.store.submit([spec], priority=priority)
        site.store.take_due(1)
        waiting.append(made.job_id)

    # Then a worker says so
    eventually(lambda: said().count("message.refused") == len(Lane))
    assert "version: Input should be 1 (got 2)" in said()
    # And the jobs are announced again, and run
    eventually(lambda: all(site.store.job(each).state in ENDED for each in waiting))
    assert {site.store.job(each).state for each in waiting} == {State.SUCCEEDED}
    assert "Traceback" not in said()
