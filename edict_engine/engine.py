"""The device thread: one owner of the network, fed by any number of callers.

Invariant: all denoising happens on this one thread, and so does all other work of the model
(VAE, text encoding) or, on a GPU, all of it on one other thread (see ``auxiliary``). Results then
never depend on timing, and a model needs no locks.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, Self, TypeVar

import torch

from edict_engine.auxiliary import Auxiliary
from edict_engine.calls import A, Batched, Call, Calls, R
from edict_engine.errors import EngineClosed, ParameterError
from edict_engine.group import Denoise, Trajectory
from edict_engine.lanes import Lanes
from edict_engine.probe import find_rungs
from edict_engine.ticket import Ticket

T = TypeVar("T")
Job = Callable[[], None]

#: An express caller gets this time to come with its next piece of work, before the device turns to
#: other work: that would be a whole turn of the largest batch, for each of the caller's pieces.
FOLLOW_UP_SECONDS = 0.05
#: At most, however many come.
LONGEST_SETTLE_SECONDS = 1.0


class Denoiser(Protocol):
    """All that the engine needs of a model."""

    @property
    def denoise(self) -> Denoise:
        """The network; see ``group.Denoise``."""

    @property
    def device(self) -> torch.device:
        """Where it runs."""

    @property
    def controls_apart(self) -> bool:
        """Whether attention control needs batches of its own; see ``Lanes``."""


class Engine:
    """Runs trajectories in shared batches on one daemon thread. Use it as a context manager.

    ``rungs`` are the allowed row counts of a batch (see ``group``); None: on a GPU those that its
    memory holds, found by trying before anything runs, else ``probe.CPU_RUNGS``. A function is
    asked for them, on the device thread: CUDA graphs belong to the thread that records them. Work
    of at least the priority ``express`` goes before all other work, turn by turn (see ``lanes``).
    A device at rest begins other work when no more has come for ``settle`` seconds: a
    trajectory keeps its rung, and the first of several that come together would begin alone.
    Every method may be called from any thread; all of them raise ``EngineClosed`` after ``close``.
    """

    def __init__(
        self,
        model: Denoiser,
        *,
        rungs: Sequence[int] | Callable[[], Sequence[int]] | None = None,
        express: int | None = None,
        settle: float = 0.0,
    ) -> None:
        self._express = math.inf if express is None else express
        self._settle = settle
        self._follow_up = False
        self._inbox: deque[tuple[Job, Ticket[Any]]] = deque()
        self._calls = Calls(lambda function: function())
        self._changed = threading.Condition()
        self._closed = False
        self._lanes: Lanes
        ready: Future[tuple[int, ...]] = Future()
        self._thread = threading.Thread(
            target=self._begin, args=(model, rungs, ready), name="edict-device", daemon=True
        )
        self._thread.start()
        self._rungs = ready.result()
        self._auxiliary = Auxiliary(model.device) if model.device.type == "cuda" else None

    def submit(
        self, trajectory: Trajectory[T], *, priority: int = 0, rung: int | None = None
    ) -> Ticket[T]:
        """Queue ``trajectory``; higher ``priority`` starts first, equal ones in order.

        With ``rung`` it runs in batches of exactly that many rows, as bit-exactness with stored
        latents needs. Raises ``ParameterError`` if its rows cannot fit.
        """
        rows = trajectory.guidance.rows
        limit = self._rungs[-1] if rung is None else rung
        if rows > limit:
            raise ParameterError(
                f"the trajectory needs {rows} rows and a batch has {limit}: give the engine a "
                f"rung of at least {rows}"
            )
        ticket: Ticket[T] = Ticket(trajectory.turns)
        self._post(lambda: self._lanes.add(trajectory, ticket, priority, rung), ticket)
        return ticket

    def run(self, function: Callable[[], T], *, priority: int = 0) -> Ticket[T]:
        """Call ``function`` in the order of arrival: between turns, or on a GPU beside them."""
        return self.run_row(Batched(lambda _: [function()]), None, priority=priority)

    def run_row(self, function: Batched[A, R], row: A, *, priority: int = 0) -> Ticket[R]:
        """Like ``run``, for one row: those that wait at the same time share a call.

        What the function knows of the row without a call is there at once.
        """
        ticket: Ticket[R] = Ticket()
        known = None if self._closed else function.known(row)
        call = Call(function, row, ticket)
        if known is not None:
            ticket.succeed(known)
        elif self._auxiliary:
            self._auxiliary.add(call)
        else:
            self._post(lambda: self._gather(call, priority), ticket)
        return ticket

    def _gather(self, call: Call[Any, Any], priority: int) -> None:
        self._calls.add(call)
        self._follow_up = self._follow_up or priority >= self._express

    def close(self) -> None:
        """Stop after the current turn; whatever is not done fails with ``EngineClosed``."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._auxiliary:
            self._auxiliary.close()
        self._thread.join()

    @property
    def busy_rows(self) -> int:
        """Rows of batches that have work at the moment."""
        return self._lanes.busy_rows

    @property
    def rungs(self) -> tuple[int, ...]:
        """The row counts that it began with, ascending."""
        return self._rungs

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _post(self, job: Job, ticket: Ticket[Any]) -> None:
        with self._changed:
            if self._closed:
                raise EngineClosed("the engine is closed: make a new one")
            self._inbox.append((job, ticket))
            self._changed.notify()

    def _begin(
        self,
        model: Denoiser,
        rungs: Sequence[int] | Callable[[], Sequence[int]] | None,
        ready: "Future[tuple[int, ...]]",
    ) -> None:
        """Find the rungs, tell ``ready``, and run the loop."""
        try:
            found = _find(model, rungs)
            self._lanes = Lanes(
                model.denoise,
                found,
                express=self._express,
                controls_apart=model.controls_apart,
            )
        except BaseException as error:
            ready.set_exception(error)
        else:
            ready.set_result(found)
            self._loop()

    def _loop(self) -> None:
        with torch.inference_mode():
            while self._wait_for_work():
                self._empty_inbox()
                self._turn()
        self._fail_all(EngineClosed("the engine was closed before the work was done"))

    def _wait_for_work(self) -> bool:
        """Sleep while there is nothing to do; return False once closed."""
        with self._changed:
            if self._follow_up and not self._lanes.hurried:
                self._more(FOLLOW_UP_SECONDS)
            self._follow_up = False
            self._changed.wait_for(lambda: self._closed or self._inbox or not self._lanes.idle)
            return not self._closed

    def _empty_inbox(self) -> None:
        """Do all that arrived before the next turn, so that what came together runs together."""
        latest = time.monotonic() + LONGEST_SETTLE_SECONDS
        while not self._closed:
            while self._inbox and not self._closed:
                job, _ = self._inbox.popleft()
                job()
            if not self._closed and self._calls.serve():
                continue
            left = min(self._settle, latest - time.monotonic())
            if left <= 0 or self._lanes.at_work or not self._more(left):
                return

    def _more(self, seconds: float) -> bool:
        """Whether something comes in this time."""
        with self._changed:
            return bool(self._changed.wait_for(lambda: self._closed or self._inbox, seconds))

    def _turn(self) -> None:
        if self._follow_up and not self._lanes.hurried:
            return
        try:
            hurried = self._lanes.hurried
            self._lanes.turn()
            self._follow_up = hurried and not self._lanes.hurried
        except Exception as error:
            # A bug in the loop itself: no caller may be left waiting for a dead thread.
            self._lanes.fail(error)

    def _fail_all(self, error: Exception) -> None:
        for _, ticket in self._inbox:
            ticket.fail(error)
        self._calls.fail(error)
        self._lanes.fail(error)


def _find(
    model: Denoiser, rungs: Sequence[int] | Callable[[], Sequence[int]] | None
) -> tuple[int, ...]:
    if rungs is None:
        found: Sequence[int] = find_rungs(model)
    else:
        found = rungs() if callable(rungs) else rungs
    if not found or min(found) < 1:
        raise ParameterError(f"rungs are {tuple(found)}: give row counts of at least 1")
    return tuple(sorted(found))
