"""Errors as problem documents (RFC 9457), which name the field that is wrong."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.types import Scope

from jobs.errors import (
    AccessDenied,
    ConfigurationError,
    InvalidInput,
    JobsError,
    NotFound,
    ServiceUnavailable,
)

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = "5"

_log = structlog.get_logger()


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    field: str
    """Its dotted name, such as `rows.3.edit_prompt`."""
    detail: str


class Problem(BaseModel):
    """RFC 9457, and two members of ours: a stable `code`, and `errors` by field."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldProblem] = []


@dataclass(eq=False)
class Refused(Exception):
    """A request that is not done, and what is answered to it."""

    status: int
    code: str
    detail: str
    errors: Sequence[FieldProblem] = ()
    headers: Mapping[str, str] | None = None


NAMED = 500
"""Fields that a problem names, at most: a body must not become an answer many times as long."""
_FIELD_CHARACTERS = 200
"""Of a field's name, which may be the caller's own."""

_STATUS: Sequence[tuple[type[JobsError], int]] = (
    (NotFound, 404),
    (ServiceUnavailable, 503),
    (AccessDenied, 503),
    (ConfigurationError, 503),
)


def refusal_of(error: Exception) -> Refused:
    """What is answered where this was raised. What nobody expected is a 500 that tells nothing."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, RequestValidationError):
        return _of_fields([_field(each) for each in error.errors()])
    if isinstance(error, HTTPException):
        # Python's own name of 413 depends on its version.
        code = "body_too_large" if error.status_code == 413 else _name(error.status_code)
        return Refused(error.status_code, code, str(error.detail), headers=error.headers)
    if isinstance(error, InvalidInput):
        return _of_fields([FieldProblem(field=error.field, detail=error.problem)])
    for kind, status in _STATUS:
        if isinstance(error, kind):
            headers = {"Retry-After": RETRY_SECONDS} if status == 503 else None
            return Refused(status, error.code, error.public, headers=headers)
    if isinstance(error, DataError):
        return Refused(422, "invalid_input", "a text holds what the database cannot keep")
    if isinstance(error, (DBAPIError, PoolTimeout)):
        detail = "the database does not answer; try again"
        return Refused(503, "service_unavailable", detail, headers={"Retry-After": RETRY_SECONDS})
    return Refused(500, "internal_error", "a bug of ours; the server's log says more")


def _name(status: int) -> str:
    return HTTPStatus(status).name.lower()


def answer_of(error: Exception) -> Response:
    """The problem document of an error; what nobody expected is logged."""
    refused = refusal_of(error)
    if refused.status >= 500:
        _log.error("api.failed", code=refused.code, exc_info=error)
    problem = Problem(
        title=HTTPStatus(refused.status).phrase,
        status=refused.status,
        detail=refused.detail,
        code=refused.code,
        errors=list(refused.errors),
    )
    headers = None if refused.headers is None else dict(refused.headers)
    return JSONResponse(
        problem.model_dump(), refused.status, headers=headers, media_type=MEDIA_TYPE
    )


def refused_rows(errors: Sequence[FieldProblem]) -> Refused:
    """The refusal of rows that the door did not take."""
    return _of_fields(errors)


def _of_fields(errors: Sequence[FieldProblem]) -> Refused:
    detail = "; ".join(f"{each.field}: {each.detail}" for each in errors[:3])
    more = f"; and {len(errors) - 3} more" if len(errors) > 3 else ""
    return Refused(422, "invalid_input", detail + more, errors[:NAMED])


def _field(error: Mapping[str, Any]) -> FieldProblem:
    """A report of pydantic's: its place begins with the part of the request."""
    part, *place = (str(each) for each in error["loc"])
    # A parameter that may be repeated has one name, however often it is there.
    field = ".".join(place if part == "body" else place[:1])
    value = error.get("input")
    shown = "" if value is None or isinstance(value, (dict, list)) else f" (got {value!r:.120})"
    return FieldProblem(
        field=field[:_FIELD_CHARACTERS] or part,
        detail=str(error["msg"]).removeprefix("Value error, ") + shown,
    )


@contextmanager
def renamed(**names: str) -> Iterator[None]:
    """Name fields as the request does: `names` has the request's names by those of ours.

    A dot in a name of ours is written `__`.
    """
    try:
        yield
    except InvalidInput as error:
        asked = names.get(error.field.replace(".", "__"), error.field)
        raise InvalidInput(asked, error.problem) from None


def handle_errors(app: FastAPI, answer: Callable[[Scope, Exception], Response]) -> None:
    """Have the app answer whatever is raised."""

    async def handle(request: Request, error: Exception) -> Response:
        return answer(request.scope, error)

    # Those that are expected by name: what `Exception` answers is also raised again.
    expected = (RequestValidationError, HTTPException, JobsError, Refused, DBAPIError, PoolTimeout)
    for kind in (*expected, Exception):
        app.add_exception_handler(kind, handle)
