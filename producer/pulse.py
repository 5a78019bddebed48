"""Whether a control process gets on: what its health check asks."""

import threading
import time
from collections.abc import Callable, Collection


class Pulse:
    """When each chore of `names` last came to an end, well or not."""

    def __init__(
        self, names: Collection[str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._ends = dict.fromkeys(names, clock())

    def beat(self, name: str) -> None:
        """A chore came to an end; those that nobody watches are passed over."""
        with self._lock:
            if name in self._ends:
                self._ends[name] = self._clock()

    def late(self, seconds: float) -> list[str]:
        """The chores that have not ended once in so many seconds."""
        with self._lock:
            since = self._clock() - seconds
            return [name for name, ended in self._ends.items() if ended < since]
