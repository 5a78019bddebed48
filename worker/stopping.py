"""How a worker process ends: in order when it is told to, and in any case when its device is lost.

The first SIGTERM lets work end that can in the grace period; a second one, or SIGQUIT, gives
everything back at once. All of them end with status 0: nothing was lost.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

import structlog
from celery import signals
from celery.worker import state

from worker.leases import LeaseKeeper

LAST_SECONDS = 15.0
"""A process that lost its device ends after this time, whatever its threads do."""

_log = structlog.get_logger()


def stop_on_signals(keeper: LeaseKeeper, grace: float, stop_taking: Callable[[], None]) -> None:
    """Make signals stop the running consumer; takes effect as soon as it is ready.

    `stop_taking` is called first, in the signal handler: it may set flags only.
    """

    def stop(number: int, _frame: object) -> None:
        stop_taking()
        again = keeper.stopping or number == signal.SIGQUIT
        keeper.stop_work(0.0 if again else grace)
        _stop_consumer(os.EX_OK)

    def take_over(**_: object) -> None:
        # Celery has installed its own by now: its second SIGTERM does nothing, and its SIGQUIT
        # waits for tasks that nobody told to end.
        for number in (signal.SIGTERM, signal.SIGQUIT):
            signal.signal(number, stop)

    def stop_early(**_: object) -> None:
        stop_taking()
        keeper.stop_work()

    # Not weakly: nobody else holds these functions.
    signals.worker_ready.connect(take_over, weak=False)
    signals.worker_shutting_down.connect(stop_early, weak=False)


def give_up_device(keeper: LeaseKeeper, reason: str) -> None:
    """Give everything back and end, so that a new process takes the device."""
    _log.error("device.lost", reason=reason)
    keeper.stop_work()
    _stop_consumer(os.EX_TEMPFAIL)
    # A broken device may hold threads, and so an orderly end, for ever.
    last = threading.Timer(LAST_SECONDS, exit_now, [os.EX_TEMPFAIL])
    last.daemon = True
    last.start()


def _stop_consumer(status: int) -> None:
    # What Celery's own handlers set; its loop looks at it.
    state.should_stop = status


def exit_now(status: int) -> None:
    """End the process without waiting for threads that a broken device may hold for ever."""
    _log.info("worker.stopped", status=status, threads=threading.active_count())
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # no room left for the log is no reason to stay
            stream.flush()
    os._exit(status)
