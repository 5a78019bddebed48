"""Calls of the VAE and the text encoders: what waits together runs together.

Invariant: such a network only ever sees batches of one fixed width, filled up where fewer rows
wait. The bits of its output depend on the batch's shape, and at a fixed one neither on a row's
neighbours nor on its position (see ``group``). So nobody waits for others to come: what a row
becomes is the same alone.

The width is 1 unless told otherwise, for idle rows cost time: on a CPU with the small model, full
batches of 4 do 1.3 times the images and twice the prompts a second, and a lonely image takes three
times as long, of work that is about 1% of the sampling (``bench/RESULTS.md``).
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor

from edict_engine import memory
from edict_engine.errors import Cancelled, ParameterError
from edict_engine.ticket import Ticket

A = TypeVar("A", bound=Hashable)
R = TypeVar("R")
Evaluate = Callable[[Callable[[], list[Any]]], list[Any]]


class Batched(Generic[A, R]):
    """A function of ``width`` rows, which gives as many results; fewer rows are filled up.

    Tensors share a batch where they have one shape and dtype, other rows always.
    """

    def __init__(self, function: Callable[[Sequence[A]], Sequence[R]], width: int = 1) -> None:
        if width < 1:
            raise ParameterError(f"a batch has {width} rows: give at least 1")
        self._function = function
        self.width = width

    def __call__(self, rows: Sequence[A]) -> list[R]:
        """Return what each of 1 to ``width`` rows becomes, and keep it."""
        results = self.make(rows)
        self.keep(rows, results)
        return results

    def make(self, rows: Sequence[A]) -> list[R]:
        """Return what each of 1 to ``width`` rows becomes."""
        idle = [rows[0]] * (self.width - len(rows))
        return list(self._function([*rows, *idle]))[: len(rows)]

    def keep(self, rows: Sequence[A], results: Sequence[R]) -> None:
        """Let ``known`` say what became of ``rows``, if such things are kept."""

    def known(self, row: A) -> R | None:  # noqa: ARG002
        """Return what ``row`` becomes, if that takes no call. For any thread."""
        return None


class Remembering(Batched[A, R]):
    """Keeps the results of the latest ``kept`` rows."""

    def __init__(
        self, function: Callable[[Sequence[A]], Sequence[R]], width: int, *, kept: int
    ) -> None:
        super().__init__(function, width)
        self._kept = kept
        self._results: OrderedDict[A, R] = OrderedDict()
        self._lock = threading.Lock()

    def make(self, rows: Sequence[A]) -> list[R]:
        """Call the function for those that are not known, each once."""
        found = {row: result for row in rows if (result := self.known(row)) is not None}
        missing = [row for row in dict.fromkeys(rows) if row not in found]
        if missing:
            found |= dict(zip(missing, super().make(missing), strict=True))
        return [found[row] for row in rows]

    def keep(self, rows: Sequence[A], results: Sequence[R]) -> None:
        """Keep ``results``; from now on any thread may be handed them."""
        with self._lock:
            self._results |= zip(rows, results, strict=True)
            while len(self._results) > self._kept:
                self._results.popitem(last=False)

    def known(self, row: A) -> R | None:
        """Return what was kept."""
        with self._lock:
            if row in self._results:
                self._results.move_to_end(row)
            return self._results.get(row)


@dataclass(frozen=True, eq=False)
class Call(Generic[A, R]):
    """One row for ``function``, and who waits for what becomes of it."""

    function: Batched[A, R]
    row: A
    ticket: Ticket[R]

    @property
    def kind(self) -> tuple[Hashable, ...]:
        """Equal for calls that may share a batch."""
        layout = (self.row.shape, self.row.dtype) if isinstance(self.row, Tensor) else ()
        return (self.function, *layout)


class Calls:
    """What waits, in the order of arrival. Any thread may add; one serves.

    ``evaluate`` calls the function that it is given where the device wants it called.
    """

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate
        self._waiting: list[Call[Any, Any]] = []
        self._lock = threading.Lock()

    def add(self, call: Call[A, R]) -> None:
        """Queue ``call``."""
        with self._lock:
            self._waiting.append(call)

    def serve(self) -> bool:
        """Serve the first call, with those behind it that share its batch; False if none waits.

        Those that were cancelled are not called.
        """
        calls = self._take()
        if calls:
            self._end(calls)
        return bool(calls)

    def fail(self, error: Exception) -> None:
        """End all that wait with ``error``."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for call in waiting:
            call.ticket.fail(error)

    def _take(self) -> list[Call[Any, Any]]:
        with self._lock:
            self._waiting = [call for call in self._waiting if not _given_up(call)]
            if not self._waiting:
                return []
            first = self._waiting[0]
            alike = [call for call in self._waiting if call.kind == first.kind]
            taken = alike[: first.function.width]
            self._waiting = [call for call in self._waiting if call not in taken]
            return taken

    def _end(self, calls: Sequence[Call[Any, Any]]) -> None:
        """End the tickets; where a batch of several fails, each alone, at the same width."""
        error = self._answer(calls)
        if error is None:
            return
        if len(calls) == 1:
            calls[0].ticket.fail(error)
            return
        full = memory.ran_out(error)
        del error  # and with it the tensors that its traceback holds
        if full:
            memory.release()
        for call in calls:
            self._end([call])

    def _answer(self, calls: Sequence[Call[Any, Any]]) -> Exception | None:
        """Hand the results out; return the error if there are none."""
        function, rows = calls[0].function, [call.row for call in calls]
        try:
            results = self._evaluate(lambda: function.make(rows))
        except Exception as error:
            return error
        # Not before: who is handed a kept result does not wait for the device, which may still
        # have been computing it.
        function.keep(rows, results)
        for call, result in zip(calls, results, strict=True):
            call.ticket.advance()
            call.ticket.succeed(result)
        return None


def _given_up(call: Call[Any, Any]) -> bool:
    """Whether ``call`` was cancelled; if so it ends."""
    cancelled = call.ticket.cancel_requested
    if cancelled:
        call.ticket.fail(Cancelled("the call was cancelled before it started"))
    return cancelled
