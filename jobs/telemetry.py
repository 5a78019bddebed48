"""The side of `jobs.tracing` that knows OpenTelemetry; imported only where tracing is on.

The provider is ours alone, never the process's global one: libraries that bring spans of their own
would put URLs, and with them secrets and prompts, into them. Ours hold ids, names and codes.

Sampling, headers and the like are OpenTelemetry's own variables (`OTEL_TRACES_SAMPLER`,
`OTEL_EXPORTER_OTLP_HEADERS`), read by its SDK.
"""

import logging
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from sqlalchemy import Engine, event

from jobs.tracing import HEADER, Attribute, Kind

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FLUSH_SECONDS = 5.0
"""A process that ends waits so long for a collector."""

_KINDS: dict[Kind, SpanKind] = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}
_W3C = TraceContextTextMapPropagator()
_log = structlog.get_logger()


class OpenTelemetry:
    """Sends spans to the collector at `endpoint`, by OTLP over HTTP."""

    def __init__(self, endpoint: str, service: str, resource: Mapping[str, str]) -> None:
        _route_logs()
        who: dict[str, str | int] = {
            "service.name": f"edict-{service}",
            "service.version": version("edict"),
            "host.name": socket.gethostname(),
            "process.pid": os.getpid(),
            **resource,
        }
        exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=FLUSH_SECONDS)
        self._provider = TracerProvider(resource=Resource.create(who))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("edict")
        _trace_sql(self._tracer)

    @contextmanager
    def span(
        self,
        name: str,
        kind: Kind,
        parent: object,
        links: Iterable[object],
        attributes: Mapping[str, Attribute],
    ) -> Iterator[None]:
        """See `jobs.tracing.span`."""
        with self._tracer.start_as_current_span(
            name,
            # None: the context of the caller.
            context=None if parent is None else _context(parent),
            kind=_KINDS[kind],
            attributes=_named(attributes),
            links=_links(links),
            # An error's text may quote anything.
            record_exception=False,
            set_status_on_exception=False,
        ) as made:
            try:
                yield
            except BaseException as error:
                _fail(made, type(error).__name__)
                raise

    def traceparent(self) -> str | None:
        """See `jobs.tracing.traceparent`."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier)
        return carrier.get(HEADER)

    def note(self, name: str | None, attributes: Mapping[str, Attribute]) -> None:
        """See `jobs.tracing.note`."""
        around = trace.get_current_span()
        around.set_attributes(_named(attributes))
        if name is not None:
            around.update_name(name)

    def fail(self, code: str) -> None:
        """See `jobs.tracing.fail`."""
        _fail(trace.get_current_span(), code)

    def watch(self, client: "S3Client") -> None:
        """See `jobs.tracing.watch`."""
        events = client.meta.events
        events.register("before-call.s3", self._s3_begins)
        events.register("after-call.s3", _s3_ends)
        events.register("after-call-error.s3", _s3_breaks)

    def _s3_begins(self, model: Any, context: dict[str, Any], **_: object) -> None:
        if _is_traced():
            made = self._tracer.start_span(f"s3 {model.name}", kind=SpanKind.CLIENT)
            made.set_attribute("rpc.method", model.name)
            context[_SPAN] = made

    def close(self) -> None:
        """See `jobs.tracing.stop_tracing`."""
        self._provider.force_flush(int(FLUSH_SECONDS * 1_000))


_SPAN = "edict_span"


def _s3_ends(http_response: Any, context: dict[str, Any], **_: object) -> None:
    if made := context.pop(_SPAN, None):
        status = http_response.status_code
        made.set_attribute("http.response.status_code", status)
        if status >= 500:
            _fail(made, str(status))
        made.end()


def _s3_breaks(exception: Exception, context: dict[str, Any], **_: object) -> None:
    if made := context.pop(_SPAN, None):
        _fail(made, type(exception).__name__)
        made.end()


def _trace_sql(tracer: trace.Tracer) -> None:
    """Have every statement be a span that is run inside of one, on all engines."""

    @event.listens_for(Engine, "before_cursor_execute")
    def _begin(
        connection: Any, _cursor: object, statement: str, _values: object, context: Any, _many: bool
    ) -> None:
        if _is_traced():
            # Only its verb: literals may be anything.
            verb = statement.split(None, 1)[0].upper()
            context.edict_span = tracer.start_span(f"sql {verb}", kind=SpanKind.CLIENT)
            context.edict_span.set_attributes(
                {"db.system.name": connection.dialect.name, "db.operation.name": verb}
            )

    @event.listens_for(Engine, "after_cursor_execute")
    def _end(
        _connection: Any, _cursor: object, _text: str, _values: object, context: Any, _many: bool
    ) -> None:
        _close_of(context)

    @event.listens_for(Engine, "handle_error")
    def _break(failed: Any) -> None:
        _close_of(failed.execution_context, type(failed.original_exception).__name__)


def _close_of(context: Any, failure: str | None = None) -> None:
    made = getattr(context, _SPAN, None)
    if made is not None:
        context.edict_span = None
        if failure is not None:
            _fail(made, failure)
        made.end()


def _is_traced() -> bool:
    """Whether there is a span around: looks for due work, a second apart, are nobody's trace."""
    return trace.get_current_span().get_span_context().is_valid


def _fail(made: Span, code: str) -> None:
    made.set_attribute("error.type", code)
    made.set_status(Status(StatusCode.ERROR))


def _named(attributes: Mapping[str, Attribute]) -> dict[str, str | int | float | bool]:
    """Ours get our prefix; `http__route` is one of OpenTelemetry's own names."""
    return {
        name.replace("__", ".") if "__" in name else f"edict.{name}": value
        for name, value in attributes.items()
        if value is not None
    }


def _context(parent: object) -> Context:
    """Of a `traceparent`, which may be forged; of what is none: the beginning of a trace."""
    if not isinstance(parent, str):
        return Context()
    return _W3C.extract({HEADER: parent}, context=Context())


def _links(parents: Iterable[object]) -> list[Link]:
    """To each once."""
    found: dict[tuple[int, int], SpanContext] = {}
    for parent in parents:
        context = trace.get_current_span(_context(parent)).get_span_context()
        if context.is_valid:
            found[context.trace_id, context.span_id] = context
    return [Link(context) for context in found.values()]


class _ToOurLog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """What the exporter says, in our form, and with secrets starred."""
        _log.warning("tracing.failed", reason=record.getMessage())


def _route_logs() -> None:
    logger = logging.getLogger("opentelemetry")
    logger.addHandler(_ToOurLog(logging.WARNING))
    logger.propagate = False
