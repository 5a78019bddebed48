"""One caller's work at the engine, and how that caller waits for it."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from edict_engine.calls import A, Batched, R
from edict_engine.engine import Engine
from edict_engine.errors import Cancelled
from edict_engine.group import Trajectory
from edict_engine.ticket import Ticket

T = TypeVar("T")
OnProgress = Callable[[int, int], None]
ShouldStop = Callable[[], bool]

#: Seconds between two looks at a ticket while there is someone to tell or to ask.
POLL_INTERVAL = 0.5


class Errand:
    """Calls and trajectories, one after the other, that are one piece of work to the caller.

    ``on_progress`` is told of the turns done and of their total over all trajectories,
    ``should_stop`` is asked whether to give up.
    """

    def __init__(
        self,
        engine: Engine,
        priority: int,
        on_progress: OnProgress | None,
        should_stop: ShouldStop | None,
    ) -> None:
        self._engine = engine
        self._priority = priority
        self._on_progress = on_progress
        self._should_stop = should_stop
        self._done = self._expected = 0

    def expect(self, turns: int) -> None:
        """Say how many turns all trajectories take together, if it is more than one."""
        self._expected = turns

    def call(self, function: Callable[[], T]) -> T:
        """Return what ``function`` returns on the device thread."""
        return self._wait(self._engine.run(function, priority=self._priority), None)

    def call_rows(self, function: Batched[A, R], rows: Sequence[A]) -> list[R]:
        """Return what ``function`` makes of each of ``rows``, in batches with those of others."""
        tickets = {
            row: self._engine.run_row(function, row, priority=self._priority)
            for row in dict.fromkeys(rows)
        }
        try:
            results = {row: self._wait(ticket, None) for row, ticket in tickets.items()}
        finally:
            for ticket in tickets.values():
                ticket.cancel()  # those that are not wanted any more, if one failed
        return [results[row] for row in rows]

    @contextmanager
    def turn(self, lock: threading.Lock) -> Iterator[None]:
        """Hold ``lock``; raise ``Cancelled`` if asked to give up while another errand holds it."""
        while not lock.acquire(timeout=POLL_INTERVAL):
            if self._should_stop and self._should_stop():
                raise Cancelled("the errand was cancelled while it waited for another one")
        try:
            yield
        finally:
            lock.release()

    def run(self, trajectory: Trajectory[T], rung: int | None = None) -> tuple[T, int]:
        """Return where ``trajectory`` ends and the rung that it ran at."""
        ticket = self._engine.submit(trajectory, priority=self._priority, rung=rung)
        result = self._wait(ticket, self._on_progress)
        self._done += trajectory.turns
        return result, ticket.rung

    def _wait(self, ticket: Ticket[T], on_progress: OnProgress | None) -> T:
        interval = POLL_INTERVAL if on_progress or self._should_stop else None
        while not ticket.wait(interval):
            self._report(ticket, on_progress)
            if self._should_stop and self._should_stop():
                ticket.cancel()
        self._report(ticket, on_progress)
        return ticket.result()

    def _report(self, ticket: Ticket[T], on_progress: OnProgress | None) -> None:
        if on_progress:
            done, total = (self._done + turns for turns in ticket.progress)
            on_progress(done, max(total, self._expected))
