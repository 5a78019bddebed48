"""A TCP proxy in front of a server that answers 503, dawdles, or hangs up on demand."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import StrEnum
from types import TracebackType
from typing import Self, TypeVar

from producer.embedded.ports import LOOPBACK

T = TypeVar("T")

SLOW_SECONDS = 0.4
"""What a slow server takes for each packet."""
CUT_BYTES = 300
"""How much of an answer arrives before the line goes dead: its head, and little of its body."""

_CHUNK = 65_536
_LOOK_SECONDS = 0.01
_REFUSAL_BODY = b"<Error><Code>ServiceUnavailable</Code><Message>try later</Message></Error>"
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/xml\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(_REFUSAL_BODY), _REFUSAL_BODY)
)


class Mode(StrEnum):
    """What the proxy does with a connection."""

    PASS = "pass"
    REFUSE = "refuse"
    """Answer 503, as a server does that is overloaded."""
    SLOW = "slow"
    CUT = "cut"
    """Hang up in the middle of the answer."""


class FaultProxy:
    """Stands at an address of its own before `upstream`, a port of this machine or of `host`.

    A change of mode cuts the connections of the mode before, so that it holds for every request
    from then on. `struck` counts the connections that were met by each mode. In every mode, what
    clients send is kept for `delay` seconds, and as long as `hold(data)` says so.
    """

    def __init__(
        self,
        upstream: int,
        *,
        host: str = LOOPBACK,
        port: int = 0,
        delay: float = 0.0,
        hold: Callable[[bytes], bool] = lambda _: False,
    ) -> None:
        self.upstream = upstream
        self.struck = dict.fromkeys(Mode, 0)
        self.port = port
        self._host = host
        self._delay = delay
        self._hold = hold
        self._mode = Mode.PASS
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, LOOPBACK, self.port))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def mode(self) -> Mode:
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._run(self._change(mode))

    def _run(self, work: Awaitable[T]) -> T:
        async def run() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(30)

    async def _change(self, mode: Mode) -> None:
        self._mode = mode
        for writer in self._writers:
            writer.transport.abort()

    async def _close(self) -> None:
        self._server.close()
        await self._change(Mode.PASS)
        # The handlers of the connections just cut end by themselves.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=1)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mode = self._mode
        self.struck[mode] += 1
        self._writers.add(writer)
        try:
            # Either side hangs up when it likes, and so do we.
            with suppress(OSError, asyncio.IncompleteReadError):
                if mode == Mode.REFUSE:
                    await _refuse(reader, writer)
                else:
                    await self._forward(reader, writer, mode)
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mode: Mode
    ) -> None:
        there_reader, there_writer = await asyncio.open_connection(self._host, self.upstream)
        self._writers.add(there_writer)
        delay = SLOW_SECONDS if mode == Mode.SLOW else 0.0
        limit = CUT_BYTES if mode == Mode.CUT else None
        pumps = [
            asyncio.create_task(_pump(reader, there_writer, self._delay + delay, self._hold)),
            asyncio.create_task(_pump(there_reader, writer, delay, limit=limit)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._writers.discard(there_writer)
            there_writer.transport.abort()


async def _pump(
    source: asyncio.StreamReader,
    target: asyncio.StreamWriter,
    delay: float,
    hold: Callable[[bytes], bool] = lambda _: False,
    limit: int | None = None,
) -> None:
    while data := await source.read(_CHUNK if limit is None else limit):
        await asyncio.sleep(delay)
        while hold(data):
            await asyncio.sleep(_LOOK_SECONDS)
        target.write(data)
        await target.drain()
        if limit is not None and (limit := limit - len(data)) <= 0:
            return


async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    fields = dict(line.partition(": ")[::2] for line in head.splitlines()[1:])
    # A client that asks first keeps its body.
    if "expect" not in fields:
        await reader.readexactly(int(fields.get("content-length", 0)))
    writer.write(_REFUSAL)
    await writer.drain()
    writer.close()
    await writer.wait_closed()
