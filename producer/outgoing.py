"""Connections to hosts that somebody else chose.

Invariant: the address that is connected to is the one that was checked. The name is resolved once,
here, and the connection goes to the address, so that a name that resolves otherwise a moment later
gains nothing. Proxies are not asked.
"""

import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from jobs.addresses import Network, may_be_called, parse_address
from jobs.errors import JobsError


class NoAddress(OSError):
    """The name resolves to nothing."""


class AddressRefused(JobsError):
    """The name resolves to what may not be called."""

    code = "address_refused"


@contextmanager
def connected(
    host: str,
    port: int,
    *,
    seconds: float,
    tls: ssl.SSLContext | None,
    allowed: Sequence[Network] = (),
) -> Iterator[socket.socket]:
    """A connection, cut after `seconds`: who lets each byte wait must not hold a thread for ever.

    Raises:
        AddressRefused: the host has an address that is neither public nor `allowed`.
        OSError: there is no connection.
    """
    raw = _first(_addresses(host, port, allowed), port, seconds)
    with raw, _deadline(raw, seconds):
        if tls is None:
            yield raw
            return
        with tls.wrap_socket(raw, server_hostname=host) as secured, _deadline(secured, seconds):
            yield secured


def _addresses(host: str, port: int, allowed: Sequence[Network]) -> list[str]:
    """What the name resolves to; one bad address is enough to refuse it."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NoAddress(f"{host} has no address ({error})") from None
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    for text in addresses:
        address = parse_address(text)
        if address is None or not may_be_called(address, allowed):
            raise AddressRefused(f"{host} resolves to {text}, which is not public")
    return addresses


def _first(addresses: Sequence[str], port: int, seconds: float) -> socket.socket:
    """Connect to the first address that answers."""
    failed = OSError("no address")
    for address in addresses:
        try:
            return socket.create_connection((address, port), timeout=seconds)
        except OSError as error:
            failed = error
    raise failed


@contextmanager
def _deadline(connection: socket.socket, seconds: float) -> Iterator[None]:
    def cut() -> None:
        # It may have ended in this very moment.
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
