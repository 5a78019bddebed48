"""How a command ends when it is told to."""

import atexit
import os
import signal
import sys
import threading
from pathlib import Path

DIE_WITH_PARENT = "EDICT_DIE_WITH_PARENT"
"""Set by those who start us and may be killed: `make`, which hands no SIGKILL on to its recipes."""


def stop_on_signals() -> threading.Event:
    """An event that Ctrl-C and SIGTERM set, for loops that end in order."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    atexit.register(_take_no_more)
    return stop


def _take_no_more() -> None:
    """Let a signal that comes while Python ends not turn an orderly end into a death by it.

    Python takes its handlers away at its very end, and has the kernel's own again then.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def hurry_on_signals(stop: threading.Event) -> threading.Event:
    """An event for those who were told twice, or by SIGQUIT; that sets `stop` as well."""
    hurry = threading.Event()

    def told(number: int, _frame: object) -> None:
        if stop.is_set() or number == signal.SIGQUIT:
            hurry.set()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, told)
    return hurry


def interrupt_on_sigterm() -> None:
    """Make SIGTERM what Ctrl-C is: every `with` on the way out stops what it started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def die_with_parent() -> None:
    """Start again as a process that the kernel stops with its parent, if that was asked for."""
    if os.environ.pop(DIE_WITH_PARENT, None):
        from jobs import exec_with_parent

        trampoline = [sys.executable, "-I", "-S", str(Path(exec_with_parent.__file__))]
        who = [str(os.getppid()), str(int(signal.SIGTERM))]
        command = [*trampoline, *who, sys.executable, *sys.orig_argv[1:]]
        os.execv(sys.executable, command)  # noqa: S606 - replacing ourselves is the purpose
