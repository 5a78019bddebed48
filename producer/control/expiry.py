"""When a lease that ran out means that its worker is gone.

Workers renew their leases in the database. While it is away nobody can, and all leases run out:
the workers are as well as before, and renew as soon as it answers again. So leases are judged only
once it has answered for as long as a lease lasts.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import structlog
from sqlalchemy.exc import SQLAlchemyError

from jobs.store import JobStore

LISTEN_SECONDS = 1.0

_log = structlog.get_logger()


class LeaseExpiry:
    """Takes jobs from workers that fell silent, and from nobody else.

    `lease`: how long one lasts, in seconds. Workers renew three times in that time.
    """

    def __init__(
        self, store: JobStore, *, lease: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._lease = lease
        self._clock = clock
        self._answered = clock()
        self._judge_from = self._answered

    def listen_until(self, stop: threading.Event) -> None:
        """Listen several times a lease."""
        while not stop.wait(min(LISTEN_SECONDS, self._lease / 4)):
            with suppress(SQLAlchemyError):  # the chores say so
                self.listen()

    def listen(self) -> None:
        """Hear whether the database answers; to be called several times a lease.

        Raises:
            SQLAlchemyError: it does not.
        """
        self._store.check_answers()
        now = self._clock()
        if now - self._answered > self._lease / 2:
            # Ours or everybody's: what the database did not hear meanwhile is not known.
            self._judge_from = now + self._lease
        self._answered = now

    def expire(self) -> int:
        """Expire what is to be expired, and say how many.

        Raises:
            SQLAlchemyError: the database does not answer.
        """
        self.listen()
        if self._clock() < self._judge_from:
            return 0
        if expired := self._store.expire_leases():
            _log.warning("leases.expired", jobs=expired)
        return expired
