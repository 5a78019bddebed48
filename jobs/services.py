"""Waiting for the services at a process's start, so that none ever half-starts."""

import threading
from collections.abc import Callable, Mapping

import structlog
from sqlalchemy import Connection, Engine, inspect, select
from sqlalchemy.exc import DatabaseError

from jobs.database import check_database
from jobs.errors import ConfigurationError, JobsError, ServiceUnavailable
from jobs.settings import without_password
from jobs.tables import jobs, metadata

FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0

_SHOWN = 3
"""Missing tables and columns that an error names."""

_log = structlog.get_logger()

Check = Callable[[], None]


def wait_for_services(checks: Mapping[str, Check], stop: threading.Event) -> bool:
    """Run every check until all pass; False if `stop` was set before.

    Each round names what does not answer, with its URL less the password, and the rounds come at
    twice the distance each time.

    Raises:
        ConfigurationError: a setting is wrong; waiting would not help.
    """
    delay = FIRST_DELAY_SECONDS
    while not stop.is_set():
        away = {name: reason for name, check in checks.items() if (reason := _reason(check))}
        if not away:
            return True
        for name, reason in away.items():
            _log.warning("services.waiting", service=name, reason=reason, retry_in=delay)
        stop.wait(delay)
        delay = min(delay * 2, LONGEST_DELAY_SECONDS)
    return False


def _reason(check: Check) -> str | None:
    try:
        check()
    except ConfigurationError:
        raise
    except JobsError as error:
        return str(error)
    return None


def check_tables(engine: Engine) -> None:
    """Connect, and look whether all columns are there that this version knows.

    What else is there is a newer version's, and no harm: migrations add, and take away only what
    the version before does not use any more.

    Raises:
        ServiceUnavailable: the database does not answer, was never migrated or only by an older
            version, or does not let us read the jobs.
    """
    check_database(engine)
    url = without_password(engine.url.render_as_string(hide_password=True))
    try:
        if missing := _missing(engine):
            shown = ", ".join(missing[:_SHOWN]) + (" …" if len(missing) > _SHOWN else "")
            raise ServiceUnavailable(
                f"database {url} lacks tables of this version ({shown}). Run `edict migrate`"
            )
        with _only_looking(engine) as connection:
            connection.execute(select(jobs).limit(1))
    except DatabaseError as error:
        reason = str(error.orig).strip().splitlines()[0]
        raise ServiceUnavailable(
            f"database {url} does not show its tables: {reason}. If that is a permission, run "
            "deploy/postgres/roles.sql again"
        ) from None


def _missing(engine: Engine) -> list[str]:
    """Tables and columns that we know and the database does not, whoever may read them."""
    with _only_looking(engine) as connection:
        found = inspect(connection).get_multi_columns()
    there = {table: {column["name"] for column in columns} for (_, table), columns in found.items()}
    absent = [table for table in metadata.tables if table not in there]
    return absent + [
        f"{name}.{column.name}"
        for name, table in metadata.tables.items()
        if name in there
        for column in table.columns
        if column.name not in there[name]
    ]


def _only_looking(engine: Engine) -> Connection:
    """A connection that waits for nobody who writes (see `jobs.database`)."""
    return engine.execution_options(isolation_level="AUTOCOMMIT").connect()
