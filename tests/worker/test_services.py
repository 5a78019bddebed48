"""Services that are not there when a worker starts."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from jobs.processes import Child
from jobs.settings import Settings
from jobs.store import JobStore
from producer.embedded.ports import LOOPBACK, free_ports
from tests.faults.proxy import FaultProxy
from tests.pipeline import eventually

pytestmark = pytest.mark.slow


def moved(url: str, port: int, user: str = "") -> tuple[str, tuple[str, int]]:
    """The URL at another port, and where it led."""
    parts = urlsplit(url)
    who = parts.netloc.rpartition("@")[0] or user
    netloc = f"{who}@{LOOPBACK}:{port}" if who else f"{LOOPBACK}:{port}"
    return parts._replace(netloc=netloc).geturl(), (parts.hostname, parts.port)


def test_a_worker_names_what_is_away_and_begins_when_it_is_there(
    settings: Settings, store: JobStore, start: Callable[..., Child], tmp_path: Path
):
    ports = free_ports(2)
    redis, redis_at = moved(settings.redis_url.get_secret_value(), ports[0])
    s3, s3_at = moved(settings.s3_endpoint_url, ports[1])
    log = tmp_path / "worker.log"
    worker = start(*("worker", "--devices", "cpu"), EDICT_REDIS_URL=redis, EDICT_S3_ENDPOINT_URL=s3)

    # Both named, twice: it goes on trying.
    eventually(lambda: log.read_text().count("services.waiting") >= 4)

    text = log.read_text()
    assert '"service": "redis"' in text
    assert '"service": "bucket"' in text
    assert '"service": "database"' not in text
    assert "does not answer" in text
    if password := urlsplit(redis).password:
        assert password not in text
    assert store.live_workers(seen_within=60) == []
    assert worker.is_running
    with ExitStack() as stack:
        for (host, target), port in zip((redis_at, s3_at), ports, strict=True):
            stack.enter_context(FaultProxy(target, host=host, port=port))
        eventually(lambda: store.live_workers(seen_within=60))
        worker.stop()
    assert "device.died" not in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("process", ["worker", "control"])
def test_a_database_that_is_away_is_named_without_its_password(
    start: Callable[..., Child], tmp_path: Path, process: str
):
    url = "postgresql://edict:hidden-secret@127.0.0.1:1/edict"
    log = tmp_path / f"{process}.log"

    child = start(process, EDICT_DATABASE_URL=url)

    eventually(lambda: log.read_text().count("services.waiting") >= 2)
    assert child.stop(60) == 0
    text = log.read_text()
    assert "does not answer" in text
    assert "retry_in" in text
    assert "hidden-secret" not in text
    assert "started" not in text.replace("device.started", "")
    assert "Traceback" not in text


def test_a_database_without_tables_is_named_with_the_remedy(
    start: Callable[..., Child], tmp_path: Path
):
    log = tmp_path / "control.log"

    start("control", EDICT_DATABASE_URL=f"sqlite:///{tmp_path / 'empty.db'}")

    eventually(lambda: "Run `edict migrate`" in log.read_text())
