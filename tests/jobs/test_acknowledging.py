"""Messages whose task ends while Redis is away."""

import threading
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


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A server of the test's own, to be stopped."""
    with Valkey(tmp_path / "valkey") as server:
        yield server


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # Celery's, at every outage
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
