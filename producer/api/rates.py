"""Requests a minute, counted for each key in Redis, so that several servers count together.

Windows are fixed: a key may ask at the end of one and at the start of the next. Without Redis
nobody is turned away: the limit protects from haste, not from harm (quotas are in SQL).
"""

import time

import structlog
from redis import Redis, RedisError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producer.api.access import Caller
from producer.api.problems import Refused

WINDOW_SECONDS = 60
_log = structlog.get_logger()


class Rates:
    """Turns away who asks too often, and tells everybody with a limit how much is left of it."""

    def __init__(self, app: ASGIApp, redis_url: str) -> None:
        self._app = app
        self._redis = Redis.from_url(redis_url, socket_timeout=1.0, socket_connect_timeout=1.0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        caller: Caller | None = scope.get("state", {}).get("caller")
        limit = None if caller is None else caller.quota.max_requests
        if caller is None or limit is None:
            await self._app(scope, receive, send)
            return
        now = time.time()
        reset = WINDOW_SECONDS - int(now) % WINDOW_SECONDS
        count = await run_in_threadpool(self._count, caller.id, int(now) // WINDOW_SECONDS)
        # As draft-ietf-httpapi-ratelimit-headers has them.
        headers = {
            "RateLimit-Policy": f'"requests";q={limit};w={WINDOW_SECONDS}',
            "RateLimit": f'"requests";r={max(0, limit - count)};t={reset}',
        }
        if count > limit:
            detail = f"the key {caller.name!r} may ask {limit} times a minute; wait {reset} s"
            headers |= {"Retry-After": str(reset)}
            raise Refused(429, "too_many_requests", detail, headers=headers)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _count(self, caller: str, window: int) -> int:
        """This request among those of the caller's window; 0 where nobody counts."""
        name = f"edict:rate:{caller}:{window}"
        try:
            with self._redis.pipeline() as pipe:
                pipe.incr(name)
                pipe.expire(name, 2 * WINDOW_SECONDS)
                return int(pipe.execute()[0])
        except RedisError as error:
            _log.warning("api.rates_not_counted", reason=str(error))
            return 0
