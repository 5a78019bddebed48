"""A store on a fresh database of each kind, and its clock."""

from collections.abc import Iterator

import pytest
from celery import Celery
from kombu import pools
from sqlalchemy import Engine

from jobs.celery_app import make_app
from jobs.database import open_database
from jobs.settings import Settings
from jobs.store import JobStore
from tests.jobs.factories import Clock


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in os.environ:
        if name.startswith("EDICT_") and not name.startswith("EDICT_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_database(database_url, pool_size=10)
    yield engine
    engine.dispose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(engine: Engine, clock: Clock) -> JobStore:
    return JobStore(engine, clock=clock)


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    app = make_app(Settings(redis_url=redis_url))
    yield app
    app.close()
    pools.reset()
