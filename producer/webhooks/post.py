"""One POST to a URL that somebody else chose.

It goes only where it may (see `producer.outgoing`). Redirects are not followed, and the answer's
body is not read.
"""

import http.client
import socket
import ssl
from collections.abc import Mapping, Sequence
from urllib.parse import SplitResult

from jobs.addresses import Network
from jobs.errors import InvalidInput, JobsError
from jobs.webhooks import ALLOW, check_webhook_url
from producer.outgoing import AddressRefused, NoAddress, connected

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
    secure = parts.scheme == "https"
    try:
        with connected(
            str(parts.hostname),
            parts.port or (443 if secure else 80),
            seconds=seconds,
            tls=ssl.create_default_context() if secure else None,
            allowed=allowed,
        ) as connection:
            status, location = _exchange(connection, parts, body, headers)
    except AddressRefused as error:
        raise NeverDelivered(f"{error}; {ALLOW}") from None
    except NoAddress as error:
        raise NotDelivered(str(error)) from None
    except (OSError, http.client.HTTPException) as error:
        what = str(error) or type(error).__name__
        raise NotDelivered(f"no answer within {seconds:g} s ({what})") from None
    return _judge(status, location)


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
