"""The interactive lane's takers, on a real Redis."""

import threading
from collections.abc import Iterator
from contextlib import closing
from uuid import UUID, uuid4

import pytest
from celery import Celery
from kombu import pools
from redis import Redis

from jobs.celery_app import make_app
from jobs.dispatch import _send, queue_length
from jobs.lanes import INTERACTIVE_PRIORITY, Lane
from jobs.messages import queue_name
from jobs.records import DueJob
from jobs.settings import Settings
from tests.pipeline import eventually
from worker.express import Express

QUEUES = [queue_name("demo", Lane.INTERACTIVE), queue_name("demo@r1", Lane.INTERACTIVE)]


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    app = make_app(Settings(redis_url=redis_url))
    yield app
    app.close()
    pools.reset()


def announce(app: Celery, model: str = "demo") -> UUID:
    job_id = uuid4()
    _send(app, [DueJob(job_id, model, "digest", INTERACTIVE_PRIORITY)])
    return job_id


def test_messages_of_every_queue_are_run_and_acknowledged(app: Celery, redis_url: str):
    ran: list[UUID] = []
    with Express(app, QUEUES, ran.extend, slots=2):
        sent = {announce(app), announce(app, "demo@r1")}
        eventually(lambda: len(ran) == 2)

    assert set(ran) == sent
    with closing(Redis.from_url(redis_url)) as redis:
        assert redis.hlen("unacked") == 0


def test_with_every_thread_busy_messages_are_left_for_other_workers(app: Celery):
    started, go_on = threading.Semaphore(0), threading.Event()

    def run(_: object) -> None:
        started.release()
        go_on.wait(30)

    with Express(app, QUEUES, run, slots=1):
        announce(app)
        assert started.acquire(timeout=30)
        for _ in range(3):
            announce(app)
        # One more may have been on its way already.
        assert queue_length(app, QUEUES[0]) >= 2
        assert not started.acquire(timeout=0.5)
        go_on.set()
        for _ in range(3):
            assert started.acquire(timeout=30)


def test_rubbish_and_failures_do_not_end_it(app: Celery):
    ran: list[UUID] = []

    def run(job_ids: list[UUID]) -> None:
        ran.extend(job_ids)
        raise ZeroDivisionError("a fault of ours")

    with Express(app, QUEUES, run, slots=2):
        app.send_task("novel", args=["rubbish"], queue=QUEUES[0])
        sent = [announce(app)]
        eventually(lambda: len(ran) == 1)
        sent.append(announce(app))
        eventually(lambda: len(ran) == 2)

    assert ran == sent


def test_it_comes_back_when_its_connections_are_cut(app: Celery, redis_url: str):
    ran: list[UUID] = []
    with Express(app, QUEUES, ran.extend, slots=2), closing(Redis.from_url(redis_url)) as redis:
        first = announce(app)
        eventually(lambda: ran == [first])
        redis.client_kill_filter(_type="normal", skipme=True)
        again = eventually(lambda: _announced(app))
        eventually(lambda: again in ran)


def _announced(app: Celery) -> UUID | None:
    try:
        return announce(app)
    except app.connection_for_write().connection_errors:
        return None
