"""Whether a control process gets on: what its health check asks."""

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

ANY = "any chore"


class Pulse:
    """What runs how long, and when anything last came to an end, well or not.

    `watched` are the chores that are never long. With several control processes, no chore comes to
    each of them in any time; some chore does.
    """

    def __init__(
        self, watched: Collection[str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._watched = frozenset(watched)
        self._clock = clock
        self._lock = threading.Lock()
        self._running: dict[str, float] = {}
        self._ended = clock()

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        """A chore runs meanwhile, once at a time."""
        with self._lock:
            self._running[name] = self._clock()
        try:
            yield
        finally:
            with self._lock:
                del self._running[name]
                self._ended = self._clock()

    def excuse(self) -> None:
        """Nothing could be asked of us up to now, by no fault of ours."""
        with self._lock:
            self._ended = self._clock()

    def late(self, seconds: float) -> list[str]:
        """The watched chores that run longer than so many seconds; or `ANY`, if none ended."""
        with self._lock:
            since = self._clock() - seconds
            hanging = [name for name, began in self._running.items() if began < since]
            late = [name for name in hanging if name in self._watched]
            return late or ([ANY] if self._ended < since else [])
