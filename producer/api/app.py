"""The application put together."""

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp

from jobs.redis_url import redis_url
from producer.api.access import OPEN, Access
from producer.api.bodies import BodyLimit
from producer.api.events import SharedCounts
from producer.api.headers import SecurityHeaders
from producer.api.idempotency import HEADER, Idempotency
from producer.api.parts import problems
from producer.api.problems import handle_errors
from producer.api.rates import Rates
from producer.api.routes import batches, events, jobs, running, schedules, uploads
from producer.api.tracing import Tracing
from producer.api.wishes import JobWish
from producer.client import Client
from producer.dashboard import doors, pages
from producer.dashboard.refusals import answer_to

_REF = "#/components/schemas/{model}"


def make_api(client: Client, *, keyless: bool) -> ASGIApp:
    """The whole server as an ASGI application; see `producer.api` for its layers."""
    app = _routes()
    app.state.client = client
    app.state.counts = SharedCounts(client.store)
    return Tracing(
        SecurityHeaders(
            BodyLimit(
                Access(
                    Rates(Idempotency(app, client.store), redis_url(client.settings)),
                    client.store,
                    keyless=keyless,
                ),
                max_source_bytes=client.settings.max_source_bytes,
            )
        )
    )


def describe() -> dict[str, Any]:
    """The server's OpenAPI document, as `GET /openapi.json` gives it; needs no services."""
    return _routes().openapi()


def _routes() -> FastAPI:
    # No pages to try it out: they load scripts from elsewhere.
    app = FastAPI(
        title="EDICT",
        version=version("edict"),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    handle_errors(app, answer_to)
    for module in (jobs, batches, uploads, events, schedules, running):
        app.include_router(module.router)
    for module in (pages, doors):
        app.include_router(module.router)
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(plain())
        return plain()

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def _complete(schema: dict[str, Any]) -> None:
    """Describe what FastAPI does not see: the two bodies of a job, keys, repetitions."""
    job = JobWish.model_json_schema(ref_template=_REF)
    components = schema["components"]
    components["schemas"] |= job.pop("$defs", {}) | {"JobWish": job}
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            if path not in OPEN:
                operation["security"] = [{"key": []}]
            if method == "post":
                operation.setdefault("parameters", []).append(_IDEMPOTENCY)
                # Of repetitions, and of bodies that the layers before the routes refuse.
                for code, answer in problems(400, 409, 413).items():
                    described = {name: answer[name] for name in ("description", "content")}
                    operation["responses"].setdefault(str(code), described)


_IDEMPOTENCY = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "Makes the request safe to repeat: it is done once, and answered the same.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
