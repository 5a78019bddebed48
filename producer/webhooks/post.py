"""One POST to a URL that somebody else chose.

Invariant: the address that is connected to is the one that was checked. The name is resolved once,
here, and the connection goes to the address, so that a name that resolves otherwise a moment later
gains nothing. Redirects are not followed, proxies are not asked, and the answer's body is not read.
"""

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from urllib.parse import SplitResult

from jobs.addresses import Network, may_be_called, parse_address
from jobs.errors import InvalidInput, JobsError
from jobs.webhooks import ALLOW, check_webhook_url

DEADLINE_SECONDS = 10.0
"""For the whole request: a receiver that lets each byte wait must not hold a thread for ever."""


class NotDelivered(JobsError):
    """The receiver did not take it, this time."""

    code = "not_delivered"

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class NeverDelivered(NotDelivered):
    """There is no use in trying again: the address is refused, or the receiver is gone for good."""

    code = "never_delivered"


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    allowed: Sequence[Network] = (),
    seconds: float = DEADLINE_SECONDS,
) -> int:
    """Send `body`; returns the status, which is one of success.

    Raises:
        NotDelivered: no connection, no answer within `seconds`, or another status.
        NeverDelivered: the URL or its address is refused, or the answer was 410 Gone.
    """
    try:
        parts = check_webhook_url(url, allowed)
    except InvalidInput as error:
        raise NeverDelivered(str(error)) from None
    try:
        with (
            closing(_connect(parts, allowed, seconds)) as connection,
            _deadline(connection, seconds),
        ):
            status, location = _exchange(connection, parts, body, headers)
    except (OSError, http.client.HTTPException) as error:
        what = str(error) or type(error).__name__
        raise NotDelivered(f"no answer within {seconds:g} s ({what})") from None
    return _judge(status, location)


def _connect(parts: SplitResult, allowed: Sequence[Network], seconds: float) -> socket.socket:
    host, secure = str(parts.hostname), parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    raw = _first(_addresses(host, port, allowed), port, seconds)
    if not secure:
        return raw
    try:
        return ssl.create_default_context().wrap_socket(raw, server_hostname=host)
    except BaseException:
        raw.close()
        raise


def _addresses(host: str, port: int, allowed: Sequence[Network]) -> list[str]:
    """What the name resolves to; one bad address is enough to refuse it."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NotDelivered(f"{host} has no address ({error})") from None
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    for text in addresses:
        address = parse_address(text)
        if address is None or not may_be_called(address, allowed):
            raise NeverDelivered(f"{host} resolves to {text}, which is not public; {ALLOW}")
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


def _exchange(
    connection: socket.socket, parts: SplitResult, body: bytes, headers: Mapping[str, str]
) -> tuple[int, str]:
    """Returns the status and where a redirect leads."""
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    client = http.client.HTTPConnection(str(parts.hostname))
    client.sock = connection
    client.request("POST", target, body, {"Host": parts.netloc, "Connection": "close", **headers})
    with client.getresponse() as answer:
        return answer.status, answer.getheader("Location", "")


def _judge(status: int, location: str) -> int:
    if 200 <= status < 300:
        return status
    if status == http.client.GONE:
        raise NeverDelivered("the receiver is gone for good (410)", status)
    if 300 <= status < 400:
        raise NotDelivered(
            f"it redirects ({status}) to {location[:200]!r}, and redirects are not followed; "
            "give the final URL",
            status,
        )
    raise NotDelivered(f"it answered {status}", status)
