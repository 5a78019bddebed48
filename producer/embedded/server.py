"""What the embedded servers have in common: one folder, one process, ports that may be taken.

Invariant: a running server holds the lock of its folder itself (it inherits the descriptor). Two
servers on one folder would destroy its data, and the one before may still be writing after its
parent was killed.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Self

from jobs.processes import Child, ProcessDidNotStart
from producer.embedded.errors import ChildDied, ServerDidNotStart
from producer.embedded.files import lock_file, make_private_folder
from producer.embedded.ports import choose_ports

START_SECONDS = 60.0
_PREDECESSOR_SECONDS = 15.0
_ATTEMPTS = 5
# The operating system's words, and those of a server that looks before it listens.
_TAKEN = ("address already in use", "port allocation failed")


class Server(ABC):
    """A server on a folder; its data outlives it.

    `start` is `launch` and `wait_ready`: several servers start together if all are launched first.
    """

    name: ClassVar[str]
    port_names: ClassVar[Sequence[str]]
    port_offsets: ClassVar[Mapping[str, tuple[str, int]]] = MappingProxyType({})
    """Ports that must be at a distance from another: `{name: (other, distance)}`."""
    stop_seconds: ClassVar[float] = 10.0

    def __init__(self, folder: Path, *, log: Path | None = None) -> None:
        self.folder = folder
        self.log = folder / f"{self.name}.log" if log is None else log
        self.ports: dict[str, int] = {}
        self._child: Child | None = None

    def start(self) -> Self:
        """Start it and wait until it serves.

        Raises:
            ServerNotInstalled: its wheel is missing.
            ServerDidNotStart: it ended or was not ready in time.
            HomeInUse: another server runs on the folder.
        """
        self.launch()
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def launch(self) -> None:
        """Start the process without waiting until it serves.

        Raises:
            ServerNotInstalled: its wheel is missing.
            ServerDidNotStart: the program is missing.
            HomeInUse: another server runs on the folder.
        """
        self.folder = make_private_folder(self.folder)
        lock = lock_file(self.folder / "lock", patience=_PREDECESSOR_SECONDS)
        try:
            self._clean()
            remembered = self.folder / "ports.json"
            self.ports = choose_ports(remembered, self.port_names, self.port_offsets)
            self._child = self._make_child(lock)
            self._child.start()
        except ProcessDidNotStart as error:
            raise ServerDidNotStart(str(error)) from None
        finally:
            os.close(lock)

    def _make_child(self, lock: int) -> Child:
        return Child(
            self.name,
            self._command(),
            log=self.log,
            environment=self._environment(),
            folder=self.folder,
            keep_open=(lock,),
        )

    def wait_ready(self) -> None:
        """Wait until the launched server serves; ports that were taken are chosen again.

        Raises:
            ServerDidNotStart: it ended or was not ready in time.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._launched().wait_until(self._is_ready, START_SECONDS)
            except ProcessDidNotStart as error:
                self.kill()
                if attempt == _ATTEMPTS or not self._ports_were_taken():
                    raise ServerDidNotStart(str(error)) from None
                self.launch()
            else:
                return

    def _ports_were_taken(self) -> bool:
        log = self._launched().log_tail(200).lower()
        return any(words in log for words in _TAKEN)

    def check(self) -> None:
        """Make sure that it still runs.

        Raises:
            ChildDied: with the end of its log.
        """
        check_child(self._launched())

    def stop(self) -> None:
        """End it in order; does nothing where it does not run."""
        if self._child is not None:
            self._child.stop(self.stop_seconds)
            self._clean()

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        if self._child is not None:
            self._child.kill()

    @property
    def pid(self) -> int | None:
        """Its process id; None before the first start."""
        return None if self._child is None else self._child.pid

    def _launched(self) -> Child:
        if self._child is None:
            raise ServerDidNotStart(f"{self.name} was never launched; call start() first")
        return self._child

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _environment(self) -> Mapping[str, str]:
        # Nothing of ours: servers read many variables, and other tools' keys are not theirs.
        return {
            "PATH": os.defpath,
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "LC_ALL": "C",
        }

    def _clean(self) -> None:
        """Remove what the last run left outside the folder."""
        return

    @abstractmethod
    def _command(self) -> Sequence[str | Path]:
        """The command for `self.ports`, its configuration written; no secret is in it."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether it serves a client that has the right secret."""


def check_child(child: Child) -> None:
    """Make sure that it still runs.

    Raises:
        ChildDied: with the end of its log.
    """
    if not child.is_running:
        raise ChildDied(
            f"{child.name} ended with status {child.poll()}. Mend what its log says, then start "
            f"again; the end of {child.log}:\n{child.log_tail()}"
        )
