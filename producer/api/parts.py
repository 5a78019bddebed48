"""What routes share."""

from typing import Annotated, Any

from fastapi import Depends, Query, Request

from producer.api.problems import MEDIA_TYPE, Problem
from producer.client import Client

MAX_PAGE = 200


def _client(request: Request) -> Client:
    client: Client = request.app.state.client
    return client


TheClient = Annotated[Client, Depends(_client)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Items of a page.")]

_CODES = {
    400: "The body is none that can be read.",
    401: "The key is missing, unknown, revoked or expired.",
    403: "The key may not do this.",
    404: "There is nothing of that name.",
    409: "Not now: it is being done, or has not ended.",
    413: "The body is too long.",
    415: "The body is of another type.",
    422: "Something is wrong; `errors` names the fields.",
    429: "Too often, or more than the key's quota; `Retry-After` says when to come back.",
    503: "A service does not answer; try again.",
}


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: the errors that every route has, and these."""
    return {
        code: {
            "description": _CODES[code],
            "model": Problem,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for code in sorted({401, 403, 422, 429, 503, *codes})
    }
