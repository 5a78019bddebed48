"""Whoever can write to Redis can ask for what SQL says is due, and for nothing else."""

import json
import threading
from contextlib import closing
from datetime import timedelta
from uuid import uuid4

import pytest
from celery import Celery
from kombu import pools
from redis import Redis
from sqlalchemy import Engine

from jobs.celery_app import make_app
from jobs.database import open_database
from jobs.dispatch import QUEUED_AT, dispatch, oldest_message, reconcile
from jobs.lanes import Lane
from jobs.messages import RUN_SHARD, queue_name
from jobs.settings import Settings
from jobs.states import State
from jobs.store import JobStore
from jobs.store.base import utc_now
from tests.jobs.factories import edit, states, submit
from worker.express import Express

BULK, URGENT = (queue_name("demo", lane) for lane in Lane)


def bearing(moment: object) -> bytes:
    """A message that says when its jobs were queued."""
    return json.dumps({"headers": {QUEUED_AT: moment}}).encode()


FORGED = [
    b"\xff\xfe no JSON",
    b"",
    b"[]",
    b"1",
    b"null",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"{}",
    b'{"properties": 1, "headers": 1, "body": 1}',
    b'{"properties": {"delivery_tag": {}, "delivery_info": {}}, "headers": {}, "body": "x"}',
    bearing("2026-01-01T00:00:00"),
    bearing("0001-01-01T00:00:00+14:00"),
    bearing("9999-12-31T23:59:59-14:00"),
    bearing([]),
    b"9" * 100_000,
]


@pytest.fixture
def app(redis_url: str):
    app = make_app(Settings(redis_url=redis_url))
    yield app
    app.close()
    pools.reset()


@pytest.fixture
def engine(sqlite_url: str):
    engine = open_database(sqlite_url)
    yield engine
    engine.dispose()


def forge(redis_url: str, queue: str, *messages: bytes) -> None:
    """Put these where the next comes from."""
    with closing(Redis.from_url(redis_url)) as client:
        client.rpush(queue, *messages)


@pytest.mark.parametrize("message", FORGED, ids=lambda message: message[:30].decode("latin1"))
def test_control_goes_on_whatever_lies_in_a_queue(
    app: Celery, redis_url: str, engine: Engine, message: bytes
):
    # Given a job that was announced, and a forged message in its queue
    store = JobStore(engine)
    submit(store, 1)
    dispatch(store, app)
    forge(redis_url, BULK, message)

    # When control looks for lost messages, and announces another job
    found = oldest_message(app, BULK)
    reconcile(store, app, redeliver_after=3600)
    [again] = [each.job_id for each in store.submit([edit(image=7)])]
    dispatch(store, app)

    # Then the other is announced
    assert found is not None
    assert states(store, [again]) == [State.QUEUED]


def test_a_message_from_the_future_has_nothing_announced_over_and_over(
    app: Celery, redis_url: str, engine: Engine
):
    store = JobStore(engine)
    job_ids = submit(store, 1)
    dispatch(store, app)
    forge(redis_url, BULK, bearing((utc_now() + timedelta(days=400)).isoformat()))

    assert reconcile(store, app, redeliver_after=60) == 0
    assert states(store, job_ids) == [State.QUEUED]


def test_a_worker_drops_what_is_no_message_and_takes_the_next(app: Celery, redis_url: str):
    came = threading.Event()
    seen: list[object] = []
    wanted = uuid4()

    def run(job_ids: object) -> None:
        seen.append(job_ids)
        came.set()

    forge(redis_url, URGENT, *FORGED)
    with Express(app, [URGENT], run, slots=1):
        app.send_task(RUN_SHARD, args=[{"version": 1, "job_ids": [str(wanted)]}], queue=URGENT)
        assert came.wait(30)

    assert seen == [(wanted,)]
