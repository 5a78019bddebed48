"""The caller's end of work that was handed to the engine."""

import threading
from concurrent.futures import Future, wait
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Progress(NamedTuple):
    """Turns of the device loop that were taken, and that there are in all."""

    done: int
    total: int


class Ticket(Generic[T]):
    """A future with cancellation and progress. Any thread may use it.

    ``rung`` is the row count of the batches that the work runs in, 0 until it has started. Where
    memory runs out, work starts again in smaller ones: only at the end is ``rung`` final.
    """

    def __init__(self, turns: int = 1) -> None:
        self._future: Future[T] = Future()
        self._cancel = threading.Event()
        self._progress = Progress(0, turns)
        self.rung = 0

    def result(self, timeout: float | None = None) -> T:
        """Wait for the result, at most ``timeout`` seconds, and return it or raise its error.

        Raises ``TimeoutError`` when the wait is over first; the work goes on.
        """
        return self._future.result(timeout)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end, at most ``timeout`` seconds; tell whether it has come."""
        return not wait([self._future], timeout).not_done

    def cancel(self) -> None:
        """Ask for the work to stop before its next turn; ``result`` then raises ``Cancelled``."""
        self._cancel.set()

    @property
    def done(self) -> bool:
        """Whether ``result`` would return (or raise) at once."""
        return self._future.done()

    @property
    def progress(self) -> Progress:
        """How far the work is."""
        return self._progress

    # What follows is for the engine, which is the only one to end a ticket.

    @property
    def cancel_requested(self) -> bool:
        """Whether ``cancel`` was called."""
        return self._cancel.is_set()

    def advance(self) -> None:
        """Count one turn."""
        self._progress = Progress(self._progress.done + 1, self._progress.total)

    def restart(self) -> None:
        """Go back to before the first turn."""
        self._progress = Progress(0, self._progress.total)
        self.rung = 0

    def succeed(self, value: T) -> None:
        """End with a value."""
        self._future.set_result(value)

    def fail(self, error: BaseException) -> None:
        """End with an error."""
        self._future.set_exception(error)
