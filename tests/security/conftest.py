"""A PostgreSQL database with the shipped roles, and logins that have one of them each."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import Engine

from jobs.database import open_database
from jobs.store import JobStore
from tests.security import roles

Opened = Callable[[str], Engine]


@pytest.fixture
def owner_url(postgresql_url: str) -> str:
    """The database of this test, as the role that owns its tables sees it; roles are granted."""
    roles.grant(postgresql_url)
    return postgresql_url


@pytest.fixture
def url_of(owner_url: str) -> Iterator[Callable[[str], str]]:
    """The URL of a login that has one role."""
    with ExitStack() as stack:
        yield lambda role: stack.enter_context(roles.login(owner_url, role))


@pytest.fixture
def opened(url_of: Callable[[str], str]) -> Iterator[Opened]:
    """The database as a login of one role sees it."""
    with ExitStack() as stack:

        def open_as(role: str) -> Engine:
            engine = open_database(url_of(role))
            stack.callback(engine.dispose)
            return engine

        yield open_as


@pytest.fixture
def owner(owner_url: str) -> Iterator[JobStore]:
    engine = open_database(owner_url)
    yield JobStore(engine)
    engine.dispose()
