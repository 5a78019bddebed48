"""What Celery's workers, which control and the devices' processes are, make of an outage."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery.contrib.testing.worker import start_worker
from pydantic import SecretStr
from structlog.testing import capture_logs

from jobs.celery_app import make_app
from jobs.settings import Settings
from producer.embedded.valkey import Valkey
from tests.pipeline import eventually

HOUR = 3_600


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A server of the test's own, to be stopped."""
    with Valkey(tmp_path / "valkey") as server:
        yield server


def test_a_worker_whose_places_all_end_in_an_outage_takes_work_again(valkey: Valkey) -> None:
    # Given a worker with room for one message, and that in hand
    app = make_app(Settings(redis_url=SecretStr(valkey.url)))
    begun, go_on = threading.Semaphore(0), threading.Event()

    @app.task(name="work")
    def work() -> None:
        begun.release()
        go_on.wait(60)

    with start_worker(app, pool="threads", concurrency=1, perform_ping_check=False):
        work.delay()
        assert begun.acquire(timeout=30)

        # When its task ends while Redis is away
        with capture_logs() as said:
            valkey.kill()
            go_on.set()
            eventually(lambda: "message.unacknowledged" in [line["event"] for line in said])
        valkey.start()

        # Then the worker takes the next one
        work.delay()
        assert begun.acquire(timeout=30)


def test_a_worker_waits_for_redis_for_hours(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a worker whose seconds of waiting for Redis are a thousandth of that
    waited = 0.0

    def sleep(seconds: float) -> None:
        nonlocal waited
        waited += seconds
        time.sleep(seconds / 1_000)

    monkeypatch.setattr("kombu.utils.functional.sleep", sleep)
    app = make_app(Settings(redis_url=SecretStr(valkey.url)))
    done = threading.Event()

    @app.task(name="work_later")
    def work() -> None:
        done.set()

    with start_worker(app, pool="threads", concurrency=1, perform_ping_check=False):
        # When Redis is away for two hours
        valkey.kill()
        eventually(lambda: waited > 2 * HOUR, seconds=60)
        valkey.start()

        # Then the worker takes what comes afterwards
        work.delay()
        assert done.wait(30)
