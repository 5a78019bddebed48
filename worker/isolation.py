"""Who may run beside whom in one process.

Ordinary shards run side by side. A job that was lost with an earlier worker runs with nothing
beside it, so that, should it take this process with it, nothing else is lost and nothing else can
be to blame (see `jobs.store.losing`).
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Isolation:
    """Any number of shards together, or one job alone.

    Who waits to be alone goes before ordinary shards, and urgent shards before both: they wait for
    one job at most, however many are suspected.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._together = 0
        self._waiting = 0
        self._urgent_waiting = 0
        self._is_alone = False

    @contextmanager
    def together(self, *, urgent: bool = False) -> Iterator[None]:
        """Run beside others; waits while a job is, or (unless `urgent`) is to be, alone."""
        with self._changed:
            self._urgent_waiting += urgent
            self._changed.wait_for(lambda: not self._is_alone and (urgent or not self._waiting))
            self._urgent_waiting -= urgent
            self._together += 1
        try:
            yield
        finally:
            with self._changed:
                self._together -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Run with nothing beside; waits until all that runs has ended."""
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(
                lambda: not (self._is_alone or self._together or self._urgent_waiting)
            )
            self._waiting -= 1
            self._is_alone = True
        try:
            yield
        finally:
            with self._changed:
                self._is_alone = False
                self._changed.notify_all()
