"""Who may ask: keys, their scopes, and the keyless mode of a server that only this machine sees.

Every path needs a key unless it is listed here, and every method that changes something needs more
than to look: a route that is added is closed until somebody opens it.
"""

import re
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Request

from jobs.access import NO_QUOTA, ApiKey, Quota, Scope
from jobs.store import JobStore
from producer.api.problems import Refused

OPEN = frozenset({"/livez", "/readyz", "/openapi.json", "/login"})
STATIC = "/static/"
"""What pages are made of; nothing there is anybody's."""

COOKIE = "edict_key"
"""Holds the key of somebody who logged in with a browser; scripts cannot read it."""

_SUBMITTING = re.compile(
    r"/v1/(jobs|batches|uploads)|/v1/jobs/[^/]+/mark|/jobs/[^/]+/(mark|reproduce)|/try"
)
_LOOKING = frozenset({"/logout"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class Caller:
    """Who asks."""

    id: str
    """The key's id in hexadecimal digits, or "local"."""
    name: str
    scope: Scope
    tenant: str | None = None
    quota: Quota = NO_QUOTA

    def may(self, scope: str) -> bool:
        """Whether its key covers that."""
        return self.scope.covers(Scope(scope))

    @classmethod
    def of(cls, key: ApiKey) -> "Caller":
        """Whoever bears this key."""
        return cls(key.id.hex, key.name, key.scope, key.tenant, key.quota)


LOCAL = Caller("local", "local", Scope.ADMIN)


class Access:
    """Lets in who bears a key; without one, whoever is on this machine, if `keyless`."""

    def __init__(self, app: ASGIApp, store: JobStore, *, keyless: bool) -> None:
        self._app = app
        self._store = store
        self._keyless = keyless

    async def __call__(self, scope: Request, receive: Receive, send: Send) -> None:
        """Pass the request on with its `caller`."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            if self._keyless:
                _check_local(headers)
            if not is_open(scope["path"]):
                caller = await self._caller(headers, scope["method"])
                _check_scope(caller, needed(scope["method"], scope["path"]))
                scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)

    async def _caller(self, headers: Headers, method: str) -> Caller:
        given = headers.get("authorization") or _cookie(headers, method)
        if given is None and self._keyless:
            return LOCAL
        kind, _, secret = (given or "").partition(" ")
        key = None
        if kind.lower() == "bearer" and secret:
            key = await run_in_threadpool(self._store.api_key, secret.strip())
        if key is None and self._keyless and "authorization" not in headers:
            # A browser that remembers a key of another server on this machine.
            return LOCAL
        if key is None:
            detail = (
                "the key is unknown, revoked or expired"
                if given
                else "a key is needed: send the header `Authorization: Bearer KEY`"
            )
            raise Refused(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
        return Caller.of(key)


def is_open(path: str) -> bool:
    """Whether nobody needs a key for it."""
    return path in OPEN or path.startswith(STATIC)


def needed(method: str, path: str) -> Scope:
    """The scope that a request asks for."""
    if method in _SAFE or path in _LOOKING:
        return Scope.READ
    return Scope.SUBMIT if method == "POST" and _SUBMITTING.fullmatch(path) else Scope.ADMIN


def _cookie(headers: Headers, method: str) -> str | None:
    """The key of a browser, as a header would say it.

    A browser sends it along whatever page asks: what changes something must come from ours.
    """
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    if found is None:
        return None
    if method not in _SAFE:
        check_origin(headers, headers.get("origin", "none"))
    return f"Bearer {found.value}"


def check_origin(headers: Headers, origin: str | None) -> None:
    """Keep out what pages of other sites send.

    Raises:
        Refused: the request comes from one.
    """
    if origin is not None and _parts(origin).netloc != headers.get("host", ""):
        raise Refused(403, "forbidden", f"requests of pages of {origin!r:.100} are not served")


def _check_scope(caller: Caller, scope: Scope) -> None:
    if not caller.scope.covers(scope):
        raise Refused(
            403,
            "forbidden",
            f"the key {caller.name!r} may {caller.scope}; this needs a key of scope {scope}",
        )


def _check_local(headers: Headers) -> None:
    """Keep out web pages: a browser on this machine sends their requests here, too.

    One that was tricked by a name that now resolves to this machine sends that name as `Host`; a
    form of another site is sent with its `Origin`.
    """
    host = headers.get("host", "")
    if not is_loopback(_parts(f"//{host}").hostname or ""):
        detail = f"host {host!r:.100} is not this machine's; without keys only that is served"
        raise Refused(403, "forbidden", detail)
    check_origin(headers, headers.get("origin"))


def _parts(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that host."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
