"""The supervisor's part of the figures: it adds up what device processes wrote, and answers."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from jobs.errors import ConfigurationError

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Read by `prometheus_client` when a device process imports it."""

_MEMORY = "/dev/shm"  # noqa: S108
"""Where the files lie if it is there: they are mapped, and a full disk under them would kill."""


class Exposition:
    """The figures of all device processes that ever lived under this supervisor."""

    def __init__(self, folder: str | None) -> None:
        self._folder = folder

    @property
    def environment(self) -> Mapping[str, str]:
        """What device processes need to know."""
        return {} if self._folder is None else {FOLDER: self._folder}

    def forget_moment_of(self, pid: int | None) -> None:
        """Keep the counts of a process that died, and drop what it had at the moment."""
        if self._folder is not None and pid is not None:
            mark_process_dead(pid, path=self._folder)  # type: ignore[no-untyped-call]


@contextmanager
def exposition(port: int | None) -> Iterator[Exposition]:
    """Answer scrapes at `port`, on all addresses, meanwhile; None: do not.

    Raises:
        ConfigurationError: the port is taken or forbidden.
    """
    if port is None:
        yield Exposition(None)
        return
    place = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="edict-metrics-", dir=place) as folder:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]
        try:
            server, thread = start_http_server(port, registry=registry)
        except OSError as error:
            raise ConfigurationError(
                f"--metrics-port {port} cannot be listened at: {error.strerror}; choose another"
            ) from None
        try:
            yield Exposition(folder)
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
