"""A collector of traces: a real OTLP receiver over HTTP that keeps what it got."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.receivers import Receiver, receiver


@dataclass(frozen=True)
class Spanned:
    """A span as it arrived."""

    service: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str | None
    attributes: dict[str, object]
    links: tuple[str, ...]
    """Traces that it also has to do with."""
    failed: bool


@dataclass
class Collector:
    """What a test sees of it."""

    receiver: Receiver

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.receiver.port}"

    def raw(self) -> bytes:
        """Every byte that arrived."""
        return b"".join(each.body for each in self.receiver.messages)

    def spans(self) -> list[Spanned]:
        found = []
        for message in list(self.receiver.messages):
            assert message.path == "/v1/traces"
            request = ExportTraceServiceRequest.FromString(message.body)
            for each in request.resource_spans:
                resource = _attributes(each.resource.attributes)
                for scope in each.scope_spans:
                    found += [_span(str(resource["service.name"]), span) for span in scope.spans]
        return found


def _span(service, span) -> Spanned:
    return Spanned(
        service,
        span.name,
        MessageToDict(span)["kind"].removeprefix("SPAN_KIND_").lower(),
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex() or None,
        _attributes(span.attributes),
        tuple(link.trace_id.hex() for link in span.links),
        span.status.code == span.status.STATUS_CODE_ERROR,
    )


def _attributes(pairs) -> dict[str, object]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in pairs}


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port."""
    with receiver() as messages:
        yield Collector(messages)
