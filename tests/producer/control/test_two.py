"""Two control processes at once, and one that is killed: nothing is done twice, nothing is lost."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from redis import Redis

from jobs.messages import queue_name
from jobs.processes import Child
from jobs.schedules import FiringState, Schedule
from jobs.specs import InversionSpec, ModelRef, Source
from producer.client import Client
from tests.pipeline import edict as running
from tests.pipeline import environment_of, eventually
from tests.producer.conftest import png
from tests.producer.schedules.conftest import make

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
QUEUE = queue_name("demo")


@pytest.fixture
def service_database(database_url: str) -> str:
    """Every kind."""
    return database_url


@pytest.fixture
def controls(client: Client, tmp_path: Path) -> Iterator[list[Child]]:
    """Two, with short leases."""
    environment = {
        **environment_of(client.settings),
        "PYTHONPATH": str(ROOT),
        "EDICT_LEASE_SECONDS": "2",
    }
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                running("control", environment=environment, log=tmp_path / f"control{number}.log")
            )
            for number in range(2)
        ]


def specs(count: int) -> list[InversionSpec]:
    return [
        InversionSpec(
            source=Source(uri=f"s3://b/{number}.png", sha256=f"{number:064x}"),
            model=ModelRef(name="demo"),
        )
        for number in range(count)
    ]


def test_each_job_is_announced_once_and_once_more_when_redis_lost_it(
    client: Client, controls: list[Child], redis_url: str
) -> None:
    client.store.submit(specs(40))
    with Redis.from_url(redis_url) as redis:
        for _ in range(2):
            eventually(lambda: redis.llen(QUEUE) >= 40)
            # Time for the other to announce them as well, if it wanted to.
            time.sleep(2.5)
            assert redis.llen(QUEUE) == 40
            redis.flushall()
    assert all(control.is_running for control in controls)


def test_firings_happen_once_each_though_redis_is_emptied(
    client: Client, controls: list[Child], redis_url: str, tmp_path: Path
) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "a.png").write_bytes(png())
    late = {"cron": "0 * * * *", "catch_up": "all", "timezone": "UTC", "late": timedelta(hours=4)}
    schedule = make(client, inbox, template={"base": "", "edits": ("x",)}, **late)
    submitted = eventually(lambda: client.store.counts()["queued"])
    with Redis.from_url(redis_url) as redis:
        redis.flushall()
    batch = eventually(lambda: client.store.firings(schedule)[-1].batch_id)
    client.store.cancel([job.id for job in client.store.jobs_of(batch)])

    eventually(lambda: done(client, schedule))

    found = client.store.firings(schedule)
    assert len({firing.due_at for firing in found}) == len(found) >= 4
    assert sum(firing.submitted for firing in found) == submitted == 1
    assert sum(client.store.counts().values()) == 1


def done(client: Client, schedule: Schedule) -> bool:
    states = {firing.state for firing in client.store.firings(schedule)}
    return states == {FiringState.DONE}


def test_a_firing_whose_process_is_killed_is_ended_by_the_other(
    client: Client, controls: list[Child], tmp_path: Path
) -> None:
    # Given a firing of many images, and the process that works on it
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for number in range(200):
        (inbox / f"{number:03}.png").write_bytes(png((number + 1, 3)))
    schedule = make(client, inbox, template={"base": "", "edits": ("x",)})
    eventually(lambda: any(each.submitted for each in client.store.firings(schedule)))
    with client.store._engine.connect() as connection:
        holder = str(connection.exec_driver_sql("SELECT holder FROM firings").scalar_one())
    [busy] = [control for control in controls if holder.endswith(f":{control.pid}")]
    # When that is killed in the middle
    busy.kill()
    assert client.store.firings(schedule)[0].state == FiringState.FIRING
    # Then the other ends it: every image once
    eventually(lambda: client.store.firings(schedule)[0].state == FiringState.RUNNING)
    [firing] = client.store.firings(schedule)
    assert firing.attempts == 2
    assert (firing.looked_at, firing.submitted) == (200, 200)
    assert firing.batch_id is not None
    images = {job.spec.source.sha256 for job in client.store.jobs_of(firing.batch_id)}
    assert len(images) == 200 == sum(client.store.counts().values())
