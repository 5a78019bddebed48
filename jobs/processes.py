"""Child processes that never outlive us.

Invariant: however this process ends, SIGKILL included, the kernel signals every running `Child`.
That signal (`PR_SET_PDEATHSIG`) is tied to the thread that made the child, not to the process, so
every child is made by one thread that lives as long as we do: never start one any other way.

ProcessError
├── AlreadyRunning      the same child was started twice
└── ProcessDidNotStart  it ended, or was not ready in time; with the last lines of its log
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Self

from jobs.errors import JobsError

_TRAMPOLINE = Path(__file__).with_name("exec_with_parent.py")
_POLL_SECONDS = 0.02
_TAIL_BYTES = 16_384


class ProcessError(JobsError):
    """Base of every error of this module."""

    code = "process_error"


class AlreadyRunning(ProcessError):
    """The same child was started twice."""

    code = "already_running"


class ProcessDidNotStart(ProcessError):
    """It ended, or was not ready in time; the message ends with the last lines of its log."""

    code = "process_did_not_start"


class Child:
    """One process in a session of its own, so that a terminal's Ctrl-C reaches only us.

    `stop_signal` asks it to end: by `stop`, and by the kernel when we are gone. `log` takes its
    standard output and error (the log of the start before is kept as `….1`); without one they go
    where ours go. `keep_open` are file descriptors that it inherits.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        keep_open: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.log = log
        self._command = [str(part) for part in command]
        self._environment = None if environment is None else dict(environment)
        self._folder = folder
        self._stop_signal = stop_signal
        self._keep_open = tuple(keep_open)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.RLock()

    def start(self) -> Self:
        """Start the process; it is running, not necessarily ready (see `wait_until`).

        Raises:
            AlreadyRunning: it was started and has not ended.
            ProcessDidNotStart: there is no such program.
        """
        if self.is_running:
            raise AlreadyRunning(f"{self.name} already runs as process {self.pid}; stop it first")
        if shutil.which(self._command[0]) is None:
            raise ProcessDidNotStart(
                f"{self.name}: there is no program {self._command[0]!r}; check its installation"
            )
        spawned = _keeper().submit(self._spawn)
        try:
            spawned.result()
        except BaseException:
            # Ctrl-C while the other thread starts it: our caller will never hear of this child.
            wait([spawned])
            self.kill()
            raise
        return self

    def _spawn(self) -> None:
        trampoline = [sys.executable, "-I", "-S", str(_TRAMPOLINE)]
        with _open_log(self.log) as output:
            self._process = subprocess.Popen(
                [*trampoline, str(os.getpid()), str(int(self._stop_signal)), *self._command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=None if output is None else subprocess.STDOUT,
                cwd=self._folder,
                env=self._environment,
                start_new_session=True,
                pass_fds=self._keep_open,
            )

    @property
    def pid(self) -> int | None:
        """Its process id; None before the first start."""
        return None if self._process is None else self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self.poll() is None

    def poll(self) -> int | None:
        """Its exit status (negative: the signal that ended it); None while it runs.

        What it left of its process group ends with it.
        """
        process = self._process
        if process is None:
            return None
        with self._lock:
            # The group may only be signalled before the leader is reaped: its number is free
            # for others afterwards.
            if process.returncode is None and _has_ended(process.pid):
                _signal_group(process.pid, signal.SIGKILL)
            return process.poll()

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for its end: the exit status, or None after `timeout` seconds.

        Somebody else may start it again meanwhile; its end is that of the process that ran.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        process = self._process
        while self._runs(process) and (deadline is None or time.monotonic() < deadline):
            time.sleep(_POLL_SECONDS)
        return None if process is None else process.returncode

    def _runs(self, process: "subprocess.Popen[bytes] | None") -> bool:
        return self.is_running and self._process is process

    def stop(self, timeout: float = 10.0) -> int | None:
        """Ask it to end and wait; after `timeout` seconds kill it and its process group."""
        self.terminate()
        status = self.wait(timeout)
        return self.kill() if status is None else status

    def terminate(self) -> None:
        """Ask it to end, without waiting. Its own children are its own business."""
        with self._lock:
            if self._process is not None and self.is_running:
                self._process.send_signal(self._stop_signal)

    def kill(self) -> int | None:
        """Kill it and its process group at once, and wait."""
        with self._lock:
            if self._process is not None and self.is_running:
                _signal_group(self._process.pid, signal.SIGKILL)
        return self.wait()

    def wait_until(self, ready: Callable[[], bool], timeout: float) -> None:
        """Wait until `ready()` says so.

        Raises:
            ProcessDidNotStart: it ended, or was not ready within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            # In this order: where it is dead, whatever else answers as ready is not it.
            if not self.is_running:
                raise ProcessDidNotStart(self._describe(f"ended with status {self.poll()}"))
            if ready():
                return
            if time.monotonic() > deadline:
                raise ProcessDidNotStart(self._describe(f"was not ready after {timeout:g} s"))
            time.sleep(_POLL_SECONDS)

    def _describe(self, what: str) -> str:
        tail = self.log_tail()
        where = f"; the end of {self.log}:\n{tail}" if tail else ""
        return f"{self.name} {what}{where}"

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of its log; empty where it has none."""
        if self.log is None or not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextmanager
def _open_log(path: Path | None) -> Iterator[IO[bytes] | None]:
    if path is None:
        yield None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        path.replace(path.with_name(path.name + ".1"))
    # Servers may log what only their owner should read.
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:  # noqa: PTH123
        yield file


def _has_ended(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)


class _Keeper:
    """The thread that makes every child."""

    def __init__(self) -> None:
        self._requests: SimpleQueue[tuple[Callable[[], None], Future[None]]] = SimpleQueue()
        # A daemon: the interpreter joins other threads before it runs atexit handlers, and the
        # end of this thread is the end of every child.
        threading.Thread(target=self._run, name="child-keeper", daemon=True).start()

    def submit(self, spawn: Callable[[], None]) -> "Future[None]":
        future: Future[None] = Future()
        self._requests.put((spawn, future))
        return future

    def _run(self) -> None:
        while True:
            spawn, future = self._requests.get()
            try:
                spawn()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(None)
            # Else the last child and its caller's frames would live until the next request.
            del spawn, future


_the_keeper: _Keeper | None = None
_keeper_lock = threading.Lock()


def _keeper() -> _Keeper:
    global _the_keeper
    with _keeper_lock:
        if _the_keeper is None:
            _the_keeper = _Keeper()
        return _the_keeper


def _forget_the_keeper() -> None:
    # Threads do not survive a fork: the copy makes its own.
    global _the_keeper, _keeper_lock
    _the_keeper, _keeper_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_the_keeper)
