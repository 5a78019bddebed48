"""Errors as pages, for browsers; for programs they are problem documents."""

from http import HTTPStatus
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse, Response
from starlette.types import Scope

from producer.api.access import STATIC
from producer.api.problems import answer_of, refusal_of
from producer.dashboard.rendering import page

_FOR_PROGRAMS = ("/v1/", STATIC, "/livez", "/readyz", "/openapi.json", "/metrics")


def answer_to(scope: Scope, error: Exception) -> Response:
    """What is answered where this was raised: a page where somebody looks, else a document."""
    answer = answer_of(error)
    if not _is_looked_at(scope):
        return answer
    refused = refusal_of(error)
    if refused.status == HTTPStatus.UNAUTHORIZED and scope["method"] == "GET":
        return RedirectResponse(f"/login?next={quote(scope['path'], safe='')}", 303)
    title = HTTPStatus(refused.status).phrase
    shown = page("error.html", refused.status, title=title, detail=refused.detail, caller=None)
    for name, value in (refused.headers or {}).items():
        shown.headers[name] = value
    return shown


def _is_looked_at(scope: Scope) -> bool:
    path: str = scope["path"]
    accepted = Headers(scope=scope).get("accept", "")
    return not path.startswith(_FOR_PROGRAMS) and "text/html" in accepted
