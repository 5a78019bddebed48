"""Wall time by phase, for the row and for people who wonder where it went."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from jobs.tracing import span


class Stopwatch:
    """Collects seconds under the names of phases."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time and trace what happens inside; a phase entered again adds up."""
        start = time.monotonic()
        try:
            with span(name):
                yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - start, 3)
