"""Logging in with a browser: a key in a cookie that no script reads and no other site sends."""

import re
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import RedirectResponse

from producer.api.access import COOKIE, check_origin
from producer.dashboard.rendering import page

STAYS_SECONDS = 30 * 86_400

_OURS = re.compile(r"/(?![/\\])[!-~]*")
"""A path of this server; `//host` and `/\\host` lead elsewhere."""

router = APIRouter(include_in_schema=False)


@router.get("/login")
def login(next_: Annotated[str, Query(alias="next", max_length=2_000)] = "/") -> Response:
    """Ask for a key."""
    return page("login.html", caller=None, problem="", next=next_)


@router.post("/login")
async def enter(request: Request) -> Response:
    """Let in who has a key."""
    headers = Headers(scope=request.scope)
    check_origin(headers, headers.get("origin"))
    async with request.form(max_files=0, max_fields=2, max_part_size=4_096) as form:
        secret, where = str(form.get("key", "")).strip(), str(form.get("next", "/"))
    known = await run_in_threadpool(request.app.state.client.store.api_key, secret)
    if known is None:
        problem = "That key is unknown, revoked or expired."
        return page("login.html", 401, caller=None, problem=problem, next=where)
    answer = RedirectResponse(where if _OURS.fullmatch(where) else "/", 303)
    secure = request.url.scheme == "https" or headers.get("x-forwarded-proto") == "https"
    answer.set_cookie(
        COOKIE, secret, max_age=STAYS_SECONDS, httponly=True, samesite="strict", secure=secure
    )
    return answer


@router.post("/logout")
async def leave() -> Response:
    """Forget the key."""
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer
