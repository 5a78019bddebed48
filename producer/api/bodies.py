"""Limits of bodies, counted as they come: a length that is claimed proves nothing."""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_JSON_BYTES = 8 * 2**20
_FORM_EXTRA_BYTES = 2**20
"""For the fields beside two images."""
_PATIENCE = 8
"""So many times the limit is read, and thrown away, of a body that is too long: a client that is
cut off while it sends never reads what is wrong."""


class BodyLimit:
    """Refuses bodies that are longer than what could be meant."""

    def __init__(self, app: ASGIApp, *, max_source_bytes: int) -> None:
        self._app = app
        self._max_form_bytes = 2 * max_source_bytes + _FORM_EXTRA_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, as far as it goes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        form = headers.get("content-type", "").startswith("multipart/form-data")
        limit = self._max_form_bytes if form else MAX_JSON_BYTES
        claimed = headers.get("content-length", "0")
        if claimed.isdecimal() and int(claimed) > limit:
            if headers.get("expect", "").lower() != "100-continue":
                await _drain(receive, limit)
            raise _too_long(limit)
        count = 0

        async def receive_counted() -> Message:
            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            if count > limit:
                if message.get("more_body", False):
                    await _drain(receive, limit)
                raise _too_long(limit)
            return message

        await self._app(scope, receive_counted, send)


async def _drain(receive: Receive, limit: int) -> None:
    """Read on for a while: most clients look for an answer only when they have sent all."""
    count = 0
    while count <= _PATIENCE * limit:
        message = await receive()
        count += len(message.get("body", b""))
        if not message.get("more_body", False):
            return


def _too_long(limit: int) -> HTTPException:
    detail = f"the body is over the limit of {limit} bytes; send less at once"
    # The rest of the body is not read: the connection cannot be used again.
    # FastAPI hands no other error of a body on as it is.
    return HTTPException(413, detail, headers={"Connection": "close"})
