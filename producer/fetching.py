"""One image from an `https://` address that a user named, from a host that the deployment allows.

The address is the user's and the request is ours: it goes only to hosts on the list, at public
addresses (see `producer.outgoing`), follows no redirect, and takes no more than an image's bytes.
"""

import http.client
import ssl
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from jobs.addresses import Network
from jobs.errors import InvalidInput
from producer.outgoing import AddressRefused, connected

DEADLINE_SECONDS = 20.0
_PORT = 443
_MAX_URL_CHARACTERS = 2_048
_TYPES = ("image/", "application/octet-stream", "binary/octet-stream")
_CHUNK = 2**16


def fetch(
    url: str,
    hosts: Sequence[str],
    *,
    max_bytes: int,
    seconds: float = DEADLINE_SECONDS,
    allowed: Sequence[Network] = (),
    context: ssl.SSLContext | None = None,
) -> bytes:
    """Read what lies at an address; `allowed` networks may be called though they are not public.

    Raises:
        InvalidInput: the host is not on the list (`name` or `name:port`) or not public; the answer
            is no image's, is too long, leads elsewhere, or does not come.
    """
    parts = _parsed(url, hosts)
    tls = context or ssl.create_default_context()
    host, port = str(parts.hostname), parts.port or _PORT
    try:
        with connected(host, port, seconds=seconds, tls=tls, allowed=allowed) as connection:
            client = http.client.HTTPConnection(host)
            client.sock = connection
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            headers = {"Host": parts.netloc, "Accept": "image/*", "Connection": "close"}
            client.request("GET", target, headers=headers)
            with client.getresponse() as answer:
                return _body(answer, url, max_bytes)
    except AddressRefused as error:
        raise _refused(url, str(error)) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        what = str(error) or type(error).__name__
        raise _refused(url, f"no answer within {seconds:g} s ({what})") from None


def _parsed(url: str, hosts: Sequence[str]) -> SplitResult:
    printable = url.isascii() and url.isprintable() and " " not in url
    if not printable or len(url) > _MAX_URL_CHARACTERS:
        raise _refused(url, f"give at most {_MAX_URL_CHARACTERS} printable ASCII characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _PORT
    except ValueError as error:
        raise _refused(url, str(error)) from None
    if parts.scheme != "https" or not host or "@" in parts.netloc:
        raise _refused(url, "must be of the form https://host/path, without a password")
    names = {host if port == _PORT else "", f"{host}:{port}"}
    if names.isdisjoint(hosts):
        listed = ", ".join(hosts) or "none"
        raise _refused(url, f"{host} is not on the list ({listed}); see EDICT_SOURCE_HOSTS")
    return parts


def _body(answer: http.client.HTTPResponse, url: str, max_bytes: int) -> bytes:
    if 300 <= answer.status < 400:
        raise _refused(url, f"it leads elsewhere ({answer.status}); give the final address")
    if answer.status != http.client.OK:
        raise _refused(url, f"it answered {answer.status}")
    kind = answer.getheader("Content-Type", "")
    if not kind.lower().startswith(_TYPES):
        raise _refused(url, f"it is of type {kind!r:.80}, and no image")
    # What is claimed saves the reading, and proves nothing.
    if answer.length is not None and answer.length > max_bytes:
        raise _too_long(url, max_bytes)
    found = bytearray()
    while chunk := answer.read(_CHUNK):
        found += chunk
        if len(found) > max_bytes:
            raise _too_long(url, max_bytes)
    return bytes(found)


def _too_long(url: str, max_bytes: int) -> InvalidInput:
    return _refused(url, f"it has over {max_bytes} bytes; make it smaller")


def _refused(url: str, problem: str) -> InvalidInput:
    return InvalidInput("source", f"{shown_source(url)!r:.120}: {problem}")


def shown_source(url: str) -> str:
    """The address as messages may show it.

    A query may hold a token, what stands before an @ a password: neither is repeated.
    """
    return url.partition("?")[0].rpartition("@")[2]
