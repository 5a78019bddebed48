"""Waiting for the services at a process's start, so that none ever half-starts."""

import threading
from collections.abc import Callable, Mapping

import structlog
from sqlalchemy import Engine, select
from sqlalchemy.exc import DatabaseError

from jobs.database import check_database
from jobs.errors import ConfigurationError, JobsError, ServiceUnavailable
from jobs.settings import without_password
from jobs.tables import jobs

FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0

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
    """Connect, and look whether our tables are there.

    Raises:
        ServiceUnavailable: the database does not answer, or was never migrated.
    """
    check_database(engine)
    try:
        with engine.connect() as connection:
            connection.execute(select(jobs).limit(1))
    except DatabaseError as error:
        url = without_password(engine.url.render_as_string(hide_password=True))
        reason = str(error.orig).strip().splitlines()[0]
        raise ServiceUnavailable(
            f"database {url} lacks tables of this version: {reason}. Run `edict migrate`"
        ) from None
