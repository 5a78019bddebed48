"""TLS in front of a real server, with certificates of an authority that lives as long as a test.

The servers that come from wheels were built without TLS, so it ends here, one step before them, as
it does at many a managed service. What is tested, the clients' side, is the real one: their own
handshakes, and their own checks of the certificate and of the name in it.
"""

import asyncio
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme

from producer.embedded.ports import LOOPBACK

POSTGRES_WANTS_TLS = bytes.fromhex("0000000804d2162f")
"""What a PostgreSQL client sends first, in the clear, and is answered by one letter."""
_CHUNK = 65_536
_LOOK_SECONDS = 0.05


class Authority:
    """Signs certificates; `file` is what clients trust."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def context(self, name: str) -> ssl.SSLContext:
        """What a server by that name shows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(name).configure_cert(context)
        return context


class TlsFront:
    """Listens with TLS and passes on to `port`; `postgres` says that clients ask for TLS first."""

    def __init__(self, port: int, context: ssl.SSLContext, *, postgres: bool = False) -> None:
        self._to = port
        self._context = context
        self._postgres = postgres
        self._stop = threading.Event()
        self._listening = socket.create_server((LOOPBACK, 0))
        self._listening.setblocking(False)
        self.port: int = self._listening.getsockname()[1]
        self.passed = 0
        """Connections whose handshake succeeded."""
        self._thread = threading.Thread(target=self._run, name="tls")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._listening.close()

    def _run(self) -> None:
        # Whatever is open in the end is cancelled, and closed by it.
        asyncio.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        accepting = asyncio.create_task(self._accept())
        while not self._stop.is_set() and not accepting.done():
            await asyncio.sleep(_LOOK_SECONDS)
        accepting.cancel()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        serving = set()
        while True:
            raw, _ = await loop.sock_accept(self._listening)
            task = loop.create_task(self._serve(raw))
            serving.add(task)
            task.add_done_callback(serving.discard)

    async def _serve(self, raw: socket.socket) -> None:
        # A client that refuses the certificate hangs up.
        with suppress(OSError), raw:
            if self._postgres and not await _agree_on_tls(raw):
                return
            reader = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader)
            loop = asyncio.get_running_loop()
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, raw, ssl=self._context
            )
            self.passed += 1
            client = asyncio.StreamWriter(transport, protocol, reader, loop)
            answers, server = await asyncio.open_connection(LOOPBACK, self._to)
            try:
                await asyncio.gather(_pump(reader, server), _pump(answers, client))
            finally:
                transport.abort()
                server.transport.abort()
                await asyncio.sleep(0)  # both close in the loop's next turn


async def _agree_on_tls(raw: socket.socket) -> bool:
    loop = asyncio.get_running_loop()
    if await loop.sock_recv(raw, len(POSTGRES_WANTS_TLS)) != POSTGRES_WANTS_TLS:
        return False
    await loop.sock_sendall(raw, b"S")
    return True


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(_CHUNK):
            sink.write(data)
            await sink.drain()
    sink.close()
