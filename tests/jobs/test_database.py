"""Database URLs, and what is said of a database that does not answer."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from jobs import database
from jobs.database import check_database, open_database, parse_database_url
from jobs.errors import ConfigurationError, ServiceUnavailable
from tests.servers import PostgresServer


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:////tmp/a.db", "sqlite+pysqlite"),
        ("postgres://host/name", "postgresql+psycopg"),
        ("postgresql://host/name", "postgresql+psycopg"),
        ("postgresql+psycopg2://host/name", "postgresql+psycopg"),
    ],
)
def test_the_driver_is_chosen(url: str, driver: str) -> None:
    assert parse_database_url(url).drivername == driver


@pytest.mark.parametrize("url", ["", "not a url hunter2", "mysql://me:hunter2@host/name"])
def test_a_url_that_cannot_be_served_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="EDICT_DATABASE_URL") as error:
        parse_database_url(url)

    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:hunter2@127.0.0.1:1/name", r"\*\*\*@127\.0\.0\.1:1/name"),
        ("postgresql://127.0.0.1:1/n?user=me&password=hunter2", r"password=\*\*\*"),
        ("sqlite:////nowhere/at/all.db", "unable to open database file"),
    ],
)
def test_a_database_that_does_not_answer_is_named_without_its_password(
    url: str, shown: str
) -> None:
    engine = open_database(url)

    with pytest.raises(ServiceUnavailable, match=shown) as error:
        check_database(engine)

    assert "hunter2" not in str(error.value)
    engine.dispose()


def test_a_database_that_answers_passes(database_url: str) -> None:
    engine = open_database(database_url)

    check_database(engine)

    engine.dispose()


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_cannot_hold_every_prompt_is_refused(
    postgres_server: PostgresServer, encoding: str
) -> None:
    name = f"encoded_{encoding.lower()}"
    postgres_server.create(name, "template0", encoding)
    engine = open_database(postgres_server.url(name))

    with pytest.raises(ConfigurationError, match=f"encoded in {encoding}.*ENCODING 'UTF8'"):
        check_database(engine)

    engine.dispose()
    postgres_server.drop(name)


def test_a_transaction_that_a_frozen_process_left_open_lets_go_of_its_rows(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "IDLE_SECONDS", 1)
    frozen, other = open_database(postgresql_url), open_database(postgresql_url)
    lock = text("LOCK TABLE workers IN EXCLUSIVE MODE")
    with frozen.connect() as holding:
        holding.execute(lock)

        with other.begin() as connection:
            connection.execute(text("SET LOCAL lock_timeout = '30s'"))
            connection.execute(lock)

        with pytest.raises(DBAPIError, match="idle-in-transaction"):
            holding.execute(text("SELECT 1"))
        holding.invalidate()
    frozen.dispose()
    other.dispose()
