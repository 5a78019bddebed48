"""A TCP proxy that is slow, or not there yet: a network as one meets it."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from producer.embedded.ports import LOOPBACK

CHUNK_BYTES = 65_536


class SlowProxy:
    """Forwards a port of this machine to another one while it is entered.

    What clients send is held for `delay` seconds, and as long as `hold(data)` says so.
    """

    def __init__(
        self,
        target: tuple[str, int],
        *,
        port: int = 0,
        delay: float = 0.0,
        hold: Callable[[bytes], bool] = lambda _: False,
    ) -> None:
        self._target = target
        self._port = port
        self._delay = delay
        self._hold = hold
        self._closed = threading.Event()
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._server = socket.create_server((LOOPBACK, self._port))
        self.port = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        # A thread that accepts is not woken by closing its socket.
        with suppress(OSError):
            socket.create_connection((LOOPBACK, self.port), timeout=1).close()
        self._thread.join()
        self._server.close()
        for each in self._sockets:
            each.close()

    def _serve(self) -> None:
        while not self._closed.is_set():
            client, _ = self._server.accept()
            if self._closed.is_set():
                client.close()
                return
            upstream = socket.create_connection(self._target)
            self._sockets += [client, upstream]
            for pump in (self._send, self._answer):
                threading.Thread(target=pump, args=(client, upstream), daemon=True).start()

    def _send(self, client: socket.socket, upstream: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(CHUNK_BYTES):
                self._wait(data)
                upstream.sendall(data)
        with suppress(OSError):
            upstream.shutdown(socket.SHUT_WR)

    def _wait(self, data: bytes) -> None:
        time.sleep(self._delay)
        while self._hold(data) and not self._closed.is_set():
            time.sleep(0.01)

    def _answer(self, client: socket.socket, upstream: socket.socket) -> None:
        with suppress(OSError):
            while data := upstream.recv(CHUNK_BYTES):
                client.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_WR)
