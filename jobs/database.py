"""Connections: one engine for each process, the same habits on SQLite and PostgreSQL."""

import sqlite3
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from jobs.errors import ConfigurationError, ServiceUnavailable
from jobs.settings import without_password

DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
}


IDLE_SECONDS = 15
"""PostgreSQL ends a transaction in which nothing was asked for so long. A process that is frozen in
the middle of one would keep its jobs locked, so that nobody could take them over. On a busy
machine, though, a healthy process may well wait for seconds."""


def parse_database_url(url: str) -> URL:
    """Choose the driver that the project ships with; `postgres://` is understood too.

    Raises:
        ConfigurationError: not a URL, or a database that is not supported.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigurationError(
            "EDICT_DATABASE_URL is not a database URL; use sqlite:////absolute/path.db or "
            "postgresql://user:password@host:5432/name"
        ) from None
    driver = DRIVERS.get(parsed.drivername.partition("+")[0])
    if driver is None:
        raise ConfigurationError(
            f"EDICT_DATABASE_URL names {parsed.drivername!r}; supported are sqlite and postgresql"
        )
    return parsed.set(drivername=driver)


def open_database(url: str, *, pool_size: int = 5) -> Engine:
    """Make the engine for this process; nothing is connected yet.

    Raises:
        ConfigurationError: see `parse_database_url`.
    """
    parsed = parse_database_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    return _postgresql(parsed, pool_size)


def check_database(engine: Engine) -> None:
    """Connect once.

    Raises:
        ConfigurationError: a PostgreSQL database that is not in UTF-8.
        ServiceUnavailable: with the URL less its password and the driver's reason.
    """
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
    except SQLAlchemyError as error:
        url = without_password(engine.url.render_as_string(hide_password=True))
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise ServiceUnavailable(
            f"database {url} does not answer: {reason}. {_trust_remedy(reason)}Check that it runs "
            "and EDICT_DATABASE_URL"
        ) from None


def _trust_remedy(reason: str) -> str:
    """What to do where the server's certificate was refused; nothing for other reasons."""
    if "certificate" not in reason:
        return ""
    return (
        "It must be signed, for the host's name, by whom sslrootcert=/path/ca.pem in the URL says. "
    )


def _postgresql(url: URL, pool_size: int) -> Engine:
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        connect_args={"connect_timeout": 10},
    )

    # Before SQLAlchemy's own first look, which such a database makes stumble over bytes for text.
    @event.listens_for(engine, "connect", insert=True)
    def _check_encoding(connection: Any, _record: Any) -> None:
        encoding = connection.info.parameter_status("server_encoding")
        if encoding not in {"UTF8", None}:
            raise ConfigurationError(
                f"the database that EDICT_DATABASE_URL names is encoded in {encoding}, and prompts "
                "are in any script: make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE "
                "template0"
            )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        # Not as a start parameter: poolers refuse those that they do not know.
        connection.autocommit = True
        connection.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'")
        connection.autocommit = False

    return engine


def _sqlite(url: URL) -> Engine:
    engine = create_engine(url, connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: Any) -> None:
        # Transactions are begun by us, below: the driver's own would begin as readers.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        # A reader that turns writer in mid-transaction fails at once where another wrote in
        # between, whatever the timeout. Taking the write lock first makes it wait its turn.
        # Connections that only look (see `jobs.store.base`) never write, and never wait.
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
