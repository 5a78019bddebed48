"""Images that come to an idle device together begin together.

A trajectory keeps the batch shape that it began with, and that is the smallest for what is there at
the moment. The first of several images that are taken from the queue at once would begin alone in
the smallest shape, the next ones in the middle one, and the device would take turns with batches
that are half empty. So the first waits until no other has come for a moment. Images that come to a
device at work do not wait: they join what runs. Interactive jobs never come here.
"""

import threading
import time
from collections.abc import Callable

QUIET_SECONDS = 0.1
"""So long nothing more has come: the time that a worker takes from one message to the next."""
LONGEST_SECONDS = 0.5


class Gathering:
    """Where images wait for each other; `idle` says whether the device has nothing to do."""

    def __init__(
        self,
        idle: Callable[[], bool],
        *,
        quiet: float = QUIET_SECONDS,
        longest: float = LONGEST_SECONDS,
    ) -> None:
        self._idle = idle
        self._quiet = quiet
        self._longest = longest
        self._changed = threading.Condition()
        self._waiting = 0
        self._first = 0.0
        self._last = 0.0

    def wait(self) -> None:
        """Return at once if the device is at work, else when those who come now are all there."""
        if not self._idle():
            return
        with self._changed:
            self._last = time.monotonic()
            if not self._waiting:
                self._first = self._last
            self._waiting += 1
            while (left := self._left()) > 0:
                self._changed.wait(left)
            self._waiting -= 1

    def _left(self) -> float:
        ends = min(self._last + self._quiet, self._first + self._longest)
        return ends - time.monotonic()
