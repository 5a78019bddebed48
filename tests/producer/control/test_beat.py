"""Who keeps time, and that nothing which becomes of Redis stops it."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis

from jobs.celery_app import make_app
from jobs.processes import Child
from jobs.states import State
from producer.client import Client
from producer.control.beat import CONTROL_QUEUE, LOCK_SECONDS, task_name
from producer.control.chores import Chore
from producer.control.process import once_at_a_time
from producer.control.pulse import Pulse
from tests.jobs.factories import LEASE, submit
from tests.pipeline import edict as running
from tests.pipeline import environment_of, eventually

ROOT = Path(__file__).parents[3]
LOCK = "edict:beat::lock"
TIMES = "edict:beat::schedule"


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def start(client: Client, tmp_path: Path) -> Iterator[Callable[[], Child]]:
    """Starts a control process on the client's services."""
    environment = {**environment_of(client.settings), "PYTHONPATH": str(ROOT)}
    with ExitStack() as stack:

        def begin() -> Child:
            log = tmp_path / f"control{len(list(tmp_path.glob('control*.log')))}.log"
            child = running("control", environment=environment, log=log)
            return stack.enter_context(child)

        yield begin


def announced(client: Client) -> None:
    """Wait until a job that was only committed is on its way to the workers."""
    [job_id] = submit(client.store, 1)
    eventually(lambda: client.store.job(job_id).state == State.QUEUED, seconds=2 * LOCK_SECONDS)


@pytest.mark.slow
def test_one_of_two_keeps_time_and_the_other_takes_over(
    client: Client, start: Callable[[], Child], redis: Redis
) -> None:
    first = start()
    announced(client)
    holder = redis.get(LOCK)
    second = start()
    announced(client)
    assert redis.get(LOCK) == holder

    first.kill()

    eventually(lambda: redis.get(LOCK) not in (holder, None), seconds=2 * LOCK_SECONDS)
    announced(client)
    assert second.stop() == 0
    # It let go of the lock itself: who comes next need not wait.
    assert redis.get(LOCK) is None


@pytest.mark.slow
def test_one_that_waited_keeps_time_though_redis_was_emptied_and_the_first_is_gone(
    client: Client, start: Callable[[], Child], redis: Redis
) -> None:
    first = start()
    announced(client)
    start()
    announced(client)

    first.kill()
    redis.flushall()

    eventually(lambda: redis.exists(LOCK, TIMES) == 2)
    announced(client)


@pytest.mark.slow
def test_what_others_put_into_redis_stops_no_chore(
    client: Client, start: Callable[[], Child], redis: Redis
) -> None:
    def forge() -> None:
        redis.zadd(TIMES, {"edict:beat:forged": 1, "edict:beat:jobs": 1})
        redis.hset("edict:beat:forged", "definition", '{"__type__": "interval"}')
        redis.hset("edict:beat:jobs", "definition", "no JSON")
        redis.hset("edict:beat:jobs", "meta", json.dumps([1]))
        redis.lpush(CONTROL_QUEUE, "no message")

    forge()
    control = start()
    announced(client)
    forge()
    app = make_app(client.settings)
    for name, arguments in ((task_name("jobs"), [1, 2]), (task_name("unknown"), []), ("x", [{}])):
        app.send_task(name, arguments, queue=CONTROL_QUEUE)

    eventually(lambda: redis.zscore(TIMES, "edict:beat:forged") is None)
    announced(client)
    announced(client)
    assert control.is_running


@pytest.mark.slow
def test_times_of_a_clock_that_ran_ahead_stop_no_chore(
    client: Client, start: Callable[[], Child], redis: Redis
) -> None:
    start()
    announced(client)

    for key in list(redis.zrange(TIMES, 0, -1)):
        redis.zincrby(TIMES, 3_600, key)

    announced(client)


def test_a_chore_that_is_being_done_is_not_begun_again() -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()

    def run() -> None:
        begun.release()
        go_on.wait(LEASE)

    do = once_at_a_time(Chore("retention", run), Pulse([]))
    busy = threading.Thread(target=do)
    busy.start()
    assert begun.acquire(timeout=LEASE)

    do()

    assert not begun.acquire(blocking=False)
    go_on.set()
    busy.join()
    do()
    assert begun.acquire(blocking=False)


def test_a_chore_that_fails_is_done_again() -> None:
    pulse = Pulse(["jobs"])
    calls = []

    def run() -> None:
        calls.append(len(calls))
        raise ValueError("a bug")

    do = once_at_a_time(Chore("jobs", run), pulse)
    do()
    do()

    assert calls == [0, 1]
    assert pulse.late(-1) == ["any chore"]
