"""`Idempotency-Key`: a POST that bears one is done once, and answered the same each time.

A client that lost the answer sends the same request again. Only success is remembered: what failed
may be tried again under the same key. A repetition of another content is refused.
"""

import hashlib
import re

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.access import Answer
from jobs.store import JobStore
from jobs.store.admitting import Taken
from producer.api.problems import FieldProblem, Refused

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"

_NAME = re.compile(r"[!-~]{1,255}")
_BOUNDARY = re.compile(r'boundary="?([^";,]+)"?', re.IGNORECASE)


class Idempotency:
    """Remembers what was answered."""

    def __init__(self, app: ASGIApp, store: JobStore) -> None:
        self._app = app
        self._store = store

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, unless it was answered before."""
        name = Headers(scope=scope).get(HEADER) if scope["type"] == "http" else None
        asker = scope.get("state", {}).get("caller")
        if name is None or asker is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        _check(name)
        body = await Request(scope, receive).body()
        caller: str = asker.id
        known = await self._begin(caller, name, _fingerprint(scope, body))
        if known is not None:
            await _response(known)(scope, receive, send)
            return
        messages: list[Message] = []
        try:
            await self._app(scope, _once(body), _keeper(messages))
        finally:
            # Before it is sent: who has the answer may ask again at once.
            await run_in_threadpool(self._store.end_answer, caller, name, _answer(messages))
        for message in messages:
            await send(message)

    async def _begin(self, caller: str, name: str, fingerprint: str) -> Answer | None:
        try:
            return await run_in_threadpool(self._store.begin_answer, caller, name, fingerprint)
        except Taken as taken:
            if taken.same:
                detail = "the same request is being answered; ask again"
                raise Refused(409, "in_progress", detail, headers={"Retry-After": "1"}) from None
            raise _wrong(f"{name!r} stands for another request; use a new one") from None


def _keeper(messages: list[Message]) -> Send:
    async def keep(message: Message) -> None:
        messages.append(message)

    return keep


def _answer(messages: list[Message]) -> Answer | None:
    """What is to be remembered of an answer: nothing, if it is not whole or says what is wrong."""
    if not messages or messages[-1].get("more_body") or messages[0]["status"] >= 400:
        return None
    headers = Headers(raw=messages[0]["headers"])
    return Answer(
        status=messages[0]["status"],
        body=b"".join(message.get("body", b"") for message in messages[1:]).decode(),
        location=headers.get("location"),
        media_type=headers.get("content-type", "application/json"),
    )


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise _wrong("must be 1 to 255 printable ASCII characters without spaces")


def _wrong(detail: str) -> Refused:
    errors = [FieldProblem(field=HEADER, detail=detail)]
    return Refused(422, "idempotency_key", f"{HEADER}: {detail}", errors)


def _fingerprint(scope: Scope, body: bytes) -> str:
    """A digest of what is asked. Clients draw a new boundary for the same form each time."""
    kind = Headers(scope=scope).get("content-type", "")
    if found := _BOUNDARY.search(kind):
        body = body.replace(found.group(1).encode("latin-1"), b"-")
    place = f"{scope['path']}?{scope['query_string'].decode('latin-1')}\n{kind.split(';')[0]}\n"
    return hashlib.sha256(place.encode() + body).hexdigest()


def _once(body: bytes) -> Receive:
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    return receive


def _response(answer: Answer) -> Response:
    headers = {REPLAYED: "true"}
    if answer.location is not None:
        headers["Location"] = answer.location
    return Response(answer.body, answer.status, headers, answer.media_type)
