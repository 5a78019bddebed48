"""A layer that traces every request; it goes on with the caller's trace, if it names one."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.tracing import HEADER, fail, note, span

_UNKNOWN = "other"
"""Methods are anybody's to make up; names of spans are few."""
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Tracing:
    """Spans are named by route, never by path: that may hold names of batches, or anything."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else _UNKNOWN

        async def send_noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                status = message["status"]
                route = getattr(scope.get("route"), "path", None)
                name = method if route is None else f"{method} {route}"
                note(name, http__response__status_code=status, http__route=route)
                if status >= 500:
                    fail(str(status))
            await send(message)

        parent = Headers(scope=scope).get(HEADER)
        with span(method, kind="server", parent=parent, http__request__method=method):
            await self._app(scope, receive, send_noting)
