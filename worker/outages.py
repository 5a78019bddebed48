"""Writing what became of a job while the database is away.

The work is done and its results lie in the bucket: to forget it would cost the job an attempt and
the device the same work again. Leases cannot run out meanwhile (see `producer.expiry`).
"""

import time
from collections.abc import Callable

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

AGAIN_SECONDS = 0.5

_log = structlog.get_logger()


def outlast(write: Callable[[], None], *, wanted: Callable[[], bool]) -> None:
    """Call `write` until the database answers, or until it is not `wanted` any more.

    A write whose answer was lost is sent again: it must be one that a fencing token guards.

    Raises:
        SQLAlchemyError: the database is away, and nobody waits any longer.
    """
    while True:
        try:
            return write()
        except (OperationalError, InterfaceError, NoConnectionFree) as error:
            if not wanted():
                raise
            _log.warning("database.waiting", reason=str(error).splitlines()[0])
            time.sleep(AGAIN_SECONDS)
