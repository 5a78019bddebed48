"""From rows to messages, on a real Redis; and what becomes of both when Redis is lost."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from typing import Any
from uuid import UUID

import pytest
from celery import Celery
from kombu import Connection
from kombu.exceptions import ContentDisallowed
from redis import Redis

from jobs.celery_app import check_broker, make_app
from jobs.dispatch import dispatch, oldest_message, queue_length, reconcile, shards
from jobs.errors import ConfigurationError, ServiceUnavailable
from jobs.lanes import INTERACTIVE_PRIORITY, Lane
from jobs.messages import MAX_SHARD_JOBS, RUN_SHARD, Shard, queue_name
from jobs.records import DueJob
from jobs.settings import Settings
from jobs.specs import ModelRef
from jobs.store import JobStore
from tests.jobs.factories import LEASE, Clock, edit, inversion, states, submit

QUEUE = queue_name("demo")
INTERACTIVE = queue_name("demo", Lane.INTERACTIVE)


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with closing(Redis.from_url(redis_url)) as client:
        yield client


@pytest.fixture
def dead_app() -> Iterator[Celery]:
    app = make_app(Settings(redis_url="redis://:hunter2@127.0.0.1:1/0"))
    yield app
    app.close()


def messages(redis: Redis, queue: str = QUEUE) -> list[dict[str, Any]]:
    """What lies in a queue, oldest first."""
    return [json.loads(message) for message in reversed(redis.lrange(queue, 0, -1))]


def shard_of(message: dict[str, Any]) -> Shard:
    import base64

    [args, _, _] = json.loads(base64.b64decode(message["body"]))
    return Shard.model_validate(args[0])


def test_a_message_is_json_and_holds_ids_only(store: JobStore, app: Celery, redis: Redis) -> None:
    job_ids = [each.job_id for each in store.submit([edit(prompt="a"), edit(prompt="b")])]

    assert dispatch(store, app) == 2

    [message] = messages(redis)
    assert message["content-type"] == "application/json"
    assert message["headers"]["task"] == RUN_SHARD
    assert list(shard_of(message).job_ids) == job_ids
    assert states(store, job_ids) == ["queued", "queued"]
    assert dispatch(store, app) == 0


def test_each_model_has_its_queue(store: JobStore, app: Celery, redis: Redis) -> None:
    other = inversion(model=ModelRef(name="/models/sd 1.5"))
    store.submit([inversion(), other])

    dispatch(store, app)

    assert queue_length(app, QUEUE) == 1
    assert queue_length(app, queue_name("/models/sd 1.5")) == 1
    assert queue_length(app, queue_name("none")) == 0


def test_more_than_one_chunk_is_sent_whole(store: JobStore, app: Celery, redis: Redis) -> None:
    prompts = [f"a dog, {number}" for number in range(600)]
    job_ids = [each.job_id for each in store.submit(edit(prompt=prompt) for prompt in prompts)]

    assert dispatch(store, app) == 600

    sent = [shard_of(message).job_ids for message in messages(redis)]
    assert list(chain.from_iterable(sent)) == job_ids
    assert max(map(len, sent)) == MAX_SHARD_JOBS


def test_jobs_of_one_image_travel_together_wherever_they_stand() -> None:
    due = [DueJob(UUID(int=number), "demo", f"image {number % 3}") for number in range(3 * 40)] + [
        DueJob(UUID(int=999), "other", "image 0")
    ]

    packed = shards(due)

    assert [len(shard) for shard in packed] == [32, 8, 32, 8, 32, 8, 1]
    assert all(len({(job.model, job.inversion_digest) for job in shard}) == 1 for shard in packed)
    assert sorted(chain.from_iterable(packed), key=lambda job: job.id) == due


def test_with_redis_away_jobs_are_pending_again_and_soon(
    store: JobStore, dead_app: Celery, app: Celery
) -> None:
    job_ids = submit(store, 3)
    start = time.monotonic()

    with pytest.raises(ServiceUnavailable, match="Redis takes no messages") as error:
        dispatch(store, dead_app)

    assert time.monotonic() - start < 3
    assert "hunter2" not in str(error.value)
    assert states(store, job_ids) == ["pending"] * 3
    assert dispatch(store, app) == 3


def test_looking_at_a_dead_redis_says_so(store: JobStore, dead_app: Celery) -> None:
    submit(store, 1)
    store.take_due(1)

    with pytest.raises(ServiceUnavailable, match="does not answer"):
        reconcile(store, dead_app, redeliver_after=1)
    with pytest.raises(ServiceUnavailable, match=r"redis://\*\*\*@127\.0\.0\.1:1/0") as error:
        check_broker(dead_app)
    assert "hunter2" not in str(error.value)


def test_a_redis_that_answers_passes(app: Celery) -> None:
    check_broker(app)


@pytest.mark.parametrize("url", ["", "http://:hunter2@host", "amqp://host", "host:6379"])
def test_a_url_of_something_else_is_a_bad_setting(url: str) -> None:
    with pytest.raises(ConfigurationError, match="EDICT_REDIS_URL") as error:
        make_app(Settings(redis_url=url))

    assert "hunter2" not in str(error.value)


def test_jobs_of_an_emptied_redis_are_sent_again(
    store: JobStore, clock: Clock, app: Celery, redis: Redis
) -> None:
    job_ids = submit(store, 3)
    dispatch(store, app)
    redis.flushdb()
    clock.tick(9)
    assert reconcile(store, app, redeliver_after=10) == 0

    clock.tick(2)

    assert reconcile(store, app, redeliver_after=10) == 3
    assert dispatch(store, app) == 3
    assert [shard_of(each).job_ids for each in messages(redis)] == [(each,) for each in job_ids]


def test_a_queue_that_holds_messages_is_left_alone(
    store: JobStore, clock: Clock, app: Celery, redis: Redis
) -> None:
    job_ids = submit(store, 3)
    dispatch(store, app)
    clock.tick(1_000)

    assert reconcile(store, app, redeliver_after=10) == 0

    assert states(store, job_ids) == ["queued"] * 3
    assert queue_length(app, QUEUE) == 3


def test_a_lost_message_is_found_while_its_queue_never_runs_dry(
    store: JobStore, clock: Clock, app: Celery, redis: Redis
) -> None:
    [lost] = submit(store, 1)
    dispatch(store, app)
    redis.flushdb()
    clock.tick(11)
    later = [each.job_id for each in store.submit([inversion(1), inversion(2)])]
    dispatch(store, app)
    assert oldest_message(app, QUEUE) == clock.now

    clock.tick(5)
    assert reconcile(store, app, redeliver_after=10) == 1

    assert states(store, [lost, *later]) == ["pending", "queued", "queued"]


def test_a_message_of_unknown_age_is_waited_for(
    store: JobStore, clock: Clock, app: Celery, redis: Redis
) -> None:
    [job_id] = submit(store, 1)
    dispatch(store, app)
    redis.flushdb()
    redis.lpush(QUEUE, "forged")
    clock.tick(1_000)

    assert reconcile(store, app, redeliver_after=10) == 0
    redis.rpop(QUEUE)
    assert reconcile(store, app, redeliver_after=10) == 1
    assert states(store, [job_id]) == ["pending"]


def test_bulk_jobs_are_announced_a_window_at_a_time(store: JobStore, app: Celery) -> None:
    job_ids = submit(store, 8)

    assert dispatch(store, app, window=5) == 5
    assert dispatch(store, app, window=5) == 0
    store.claim(job_ids[:2], "w1", lease=LEASE)

    assert dispatch(store, app, window=5) == 2
    assert states(store, job_ids) == [*["running"] * 2, *["queued"] * 5, "pending"]


def test_interactive_jobs_are_announced_whatever_bulk_there_is_and_in_their_own_queue(
    store: JobStore, app: Celery
) -> None:
    submit(store, 8)
    dispatch(store, app, window=2)
    wanted = map(inversion, range(10, 15))
    urgent = [each.job_id for each in store.submit(wanted, priority=INTERACTIVE_PRIORITY)]

    assert dispatch(store, app, window=2) == 5

    assert states(store, urgent) == ["queued"] * 5
    assert queue_length(app, INTERACTIVE) == 5
    assert queue_length(app, QUEUE) == 2


def test_a_model_that_nobody_serves_leaves_others_their_window(
    store: JobStore, app: Celery
) -> None:
    pinned = inversion(9, model=ModelRef(name="demo", revision="r9"))
    store.submit([pinned, *(inversion(each, model=ModelRef(name="a")) for each in range(5))])
    submit(store, 5)

    assert dispatch(store, app, window=3) == 3 + 3 + 1

    assert queue_length(app, queue_name("demo@r9")) == 1
    assert queue_length(app, queue_name("a")) == queue_length(app, QUEUE) == 3


def test_a_producer_announces_its_own_jobs_only(store: JobStore, app: Celery) -> None:
    others = submit(store, 3)
    own = [each.job_id for each in store.submit(map(inversion, range(10, 14)))]

    assert dispatch(store, app, window=5, among=own) == 4

    assert states(store, [*others, *own]) == [*["pending"] * 3, *["queued"] * 4]
    more = [each.job_id for each in store.submit(map(inversion, range(20, 24)))]
    assert dispatch(store, app, window=5, among=more) == 1


def test_a_dispatcher_outlives_lost_connections(store: JobStore, app: Celery, redis: Redis) -> None:
    submit(store, 1)
    dispatch(store, app)
    redis.client_kill_filter(_type="normal", skipme=True)
    store.submit([edit()])

    try:
        sent = dispatch(store, app)
    except ServiceUnavailable:
        sent = dispatch(store, app)

    assert sent == 1
    assert queue_length(app, QUEUE) == 2


def test_nothing_but_json_is_taken_from_a_queue(app: Celery, redis_url: str) -> None:
    assert app.conf.accept_content == ["json"]
    with Connection(redis_url) as connection:
        queue = connection.SimpleQueue("forged")
        queue.put({"job_ids": []}, serializer="pickle")
        queue.close()

    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue("forged", accept=app.conf.accept_content)
        with pytest.raises(ContentDisallowed, match="pickle"):
            queue.get(timeout=1)
        queue.close()


def test_messages_are_acknowledged_late_and_one_at_a_time(app: Celery) -> None:
    assert app.conf.task_acks_late
    assert app.conf.worker_prefetch_multiplier == 1
    assert app.conf.task_ignore_result
    assert not app.conf.worker_enable_remote_control
