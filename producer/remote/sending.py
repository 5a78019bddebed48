"""What both clients share: how a request is put, and when it is tried again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from jobs.errors import InvalidInput, ServiceUnavailable
from producer.remote.calls import Reply, Request

TRIES = 4
WAITS = (0.5, 2.0, 5.0)
"""Seconds before each further try."""

_AGAIN = (502, 503, 504)


def check_url(url: str) -> str:
    """The server's address without a slash at its end.

    Raises:
        InvalidInput: it is none.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput("url", f"{url!r:.120} is not of the form https://host")
    return url.rstrip("/")


def asks_proxies(url: str) -> bool:
    """Whether the environment's proxies are asked: not for our own machine."""
    return urlsplit(url).hostname not in {"127.0.0.1", "::1", "localhost"}


def options_of(request: Request, base: str, key: str | None) -> dict[str, Any]:
    """The request as httpx takes it. The key goes to our server and to nobody else."""
    options: dict[str, Any] = {"method": request.method, "params": dict(request.params)}
    headers = dict(request.headers)
    if request.url.startswith("/"):
        options["url"] = base + quote(request.url, safe="/")
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
    else:
        # A signed address: anything that is put to it would break the signature.
        options["url"] = request.url
        del options["params"]
    if request.body is not None:
        options["json"] = request.body
    if request.file is not None:
        options |= {"data": dict(request.form or {}), "files": {"file": request.file}}
    return options | {"headers": headers}


def is_repeatable(request: Request) -> bool:
    """Whether the same again does nothing twice."""
    # An upload is the same object again.
    again = request.file is not None or "Idempotency-Key" in request.headers
    return request.method == "GET" or again


def is_to_be_repeated(request: Request, reply: Reply) -> bool:
    """Whether the same again may succeed."""
    in_progress = reply.status == 409 and b'"in_progress"' in reply.content
    return is_repeatable(request) and (in_progress or reply.status in _AGAIN)


def unreachable(base: str, error: httpx.HTTPError) -> ServiceUnavailable:
    """What is raised where no answer came."""
    what = str(error) or type(error).__name__
    return ServiceUnavailable(f"{base} does not answer: {what}. Check that `edict serve` runs")


def reply_of(answer: httpx.Response) -> Reply:
    """An answer, read."""
    return Reply(answer.status_code, answer.content)


def image_at(where: str, read: Callable[[Path], bytes] = Path.read_bytes) -> bytes:
    """The bytes of a local image.

    Raises:
        InvalidInput: it cannot be read.
    """
    try:
        return read(Path(where))
    except OSError as error:
        raise InvalidInput("image", f"{where} cannot be read: {error.strerror}") from None
