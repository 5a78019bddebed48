"""Faults of both kinds, one after the other, for as long as there is work."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from types import TracebackType
from typing import Self

from tests.faults.deployment import Deployment
from tests.faults.faults import PROCESSES, SERVICES, Fault

TEND_SECONDS = 0.5
RECOVERY_SECONDS = 30.0
"""How long workers get to be ready again: faults go on where one cannot start at all."""


class Chaos:
    """Breaks processes and services side by side while it is entered.

    Each kind goes through its faults in a shuffled order, again and again, with `pause` seconds
    between two. Those of processes are counted from when all workers are ready: on a slow machine
    they would otherwise be killed again while they start, and nothing would ever be under way.
    Leaving it waits until the last faults are mended. `struck` counts them by name.
    """

    def __init__(self, deployment: Deployment, *, pause: tuple[float, float], seed: int) -> None:
        self.struck: Counter[str] = Counter()
        self.restarts = 0
        self._deployment = deployment
        self._pause = pause
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        strikers = [
            self._thread(lambda kind=kind, at=at: self._strike(kind, Random(seed + at)))  # noqa: S311
            for at, kind in enumerate((PROCESSES, SERVICES))
        ]
        self._threads = [*strikers, self._thread(self._tend)]

    def _thread(self, run: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                run()
            except BaseException as error:
                self._errors.append(error)

        return threading.Thread(target=guarded, daemon=True)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._deployment.tend()
        if self._errors:
            raise self._errors[0]

    def _strike(self, faults: Sequence[Fault], chance: Random) -> None:
        while True:
            for fault in chance.sample(faults, len(faults)):
                if faults is PROCESSES:
                    self._recover()
                if self._stop.wait(chance.uniform(*self._pause)):
                    return
                fault(self._deployment, chance)
                self.struck[fault.__name__] += 1

    def _recover(self) -> None:
        deadline = time.monotonic() + RECOVERY_SECONDS
        while not self._deployment.is_ready() and time.monotonic() < deadline:
            if self._stop.wait(TEND_SECONDS):
                return

    def _tend(self) -> None:
        while not self._stop.is_set():
            self.restarts += self._deployment.tend()
            time.sleep(TEND_SECONDS)
