"""When a process gives up its device: the supervisor starts another one (see `worker.main`).

A CUDA context that met an error fails every later call, and memory that stays short after the
engine has halved its batches is held by something that this process cannot free. In both cases
only a new process helps, and the jobs in hand are better off with another worker meanwhile.
"""

import threading
from collections.abc import Callable

from worker.failures import Failure

OUT_OF_MEMORY = "out_of_memory"
OUT_OF_MEMORY_LIMIT = 3
"""Jobs that ran out of memory one after the other, with none between them that ended well."""


class DeviceHealth:
    """Looks at how jobs end; calls `give_up` once, with the reason, when the device is no good."""

    def __init__(self, give_up: Callable[[str], None]) -> None:
        self._give_up = give_up
        self._lock = threading.Lock()
        self._short_of_memory = 0
        self._given_up = False

    def succeeded(self) -> None:
        """A job ended well: the device works."""
        with self._lock:
            self._short_of_memory = 0

    def failed(self, failure: Failure) -> None:
        """A job ended badly: that may be the device's doing."""
        with self._lock:
            self._short_of_memory += failure.code == OUT_OF_MEMORY
            hopeless = failure.device or self._short_of_memory >= OUT_OF_MEMORY_LIMIT
            if not hopeless or self._given_up:
                return
            self._given_up = True
        self._give_up(failure.message)
