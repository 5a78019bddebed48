"""The outermost layer: headers on every answer, and an answer to every error."""

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producer.dashboard.refusals import answer_to

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    # "no-referrer" would have browsers send our own forms from the origin "null".
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Of pages: only files of ours, no inline scripts and styles, no other host."""

_BODY = "http.response.body"
_log = structlog.get_logger()


class SecurityHeaders:
    """Tells browsers to make nothing of our answers, and keeps them out of caches."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = ended = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started, ended
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if headers.get("content-type", "").startswith("text/html"):
                    headers["Content-Security-Policy"] = PAGE_POLICY
                headers.setdefault("Cache-Control", "no-store")
            await send(message)
            ended = started and not message.get("more_body", message["type"] != _BODY)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception as error:
            # The framework raises what it has answered already.
            if ended:
                return
            if started:
                _log.error("api.broken_off", path=scope["path"], exc_info=error)
                return
            await answer_to(scope, error)(scope, receive, send_with_headers)
