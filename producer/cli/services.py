"""From `--home` and the environment to a client."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from producer.client import Client


@contextmanager
def open_client(home: Path | None, service: str = "client") -> Iterator["Client"]:
    """Connect to the services; a database without our tables is reported with its remedy.

    Traces name the process after `service`.

    Raises:
        ConfigurationError: no services are named, and no embedded stack runs.
        ServiceUnavailable: the database does not answer, or has no tables.
    """
    import logging

    from sqlalchemy.exc import DatabaseError

    from jobs.errors import ServiceUnavailable
    from jobs.logs import configure_logging
    from jobs.settings import load_settings
    from jobs.tracing import start_tracing
    from producer.client import Client

    configure_logging(logging.WARNING)
    settings = load_settings(home)
    start_tracing(settings, service)
    try:
        with Client(settings) as client:
            yield client
    except DatabaseError as error:
        reason = str(error.orig).strip().splitlines()[0]
        raise ServiceUnavailable(
            f"the database refuses this: {reason}. Run `edict migrate` if it is new or older than "
            "this version, and `edict doctor` to see what is wrong"
        ) from None
