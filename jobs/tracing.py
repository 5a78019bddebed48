"""Tracing: what a job cost where, across processes. Off unless `EDICT_TRACING_ENDPOINT` is set.

Everything of ours that is traced calls this module, which knows nothing of OpenTelemetry: while
tracing is off nothing of that is imported, and a span costs one call.

A job's row bears the context that it was submitted in (W3C `traceparent`), its message that of its
announcement. Rows and messages without one, such as those of older versions, are understood: what
is done for them begins a trace of its own.
"""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal, Protocol

from jobs.errors import ConfigurationError
from jobs.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

HEADER = "traceparent"
"""Of messages, as of HTTP."""

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Attribute = str | int | float | bool | None
"""None: left out."""


class Telemetry(Protocol):
    """What `jobs.telemetry` gives, once it is started."""

    def span(
        self,
        name: str,
        kind: Kind,
        parent: object,
        links: Iterable[object],
        attributes: Mapping[str, Attribute],
    ) -> AbstractContextManager[None]:
        """See `span`."""
        ...

    def traceparent(self) -> str | None:
        """See `traceparent`."""
        ...

    def note(self, name: str | None, attributes: Mapping[str, Attribute]) -> None:
        """See `note`."""
        ...

    def fail(self, code: str) -> None:
        """See `fail`."""
        ...

    def watch(self, client: "S3Client") -> None:
        """See `watch`."""
        ...

    def close(self) -> None:
        """See `stop_tracing`."""
        ...


_telemetry: Telemetry | None = None
_OFF: AbstractContextManager[None] = nullcontext()


def start_tracing(settings: Settings, service: str, **resource: str) -> None:
    """Send spans from now on, if the settings say where to; called by entry points, before they
    connect to anything. `service` is the kind of process, `resource` what else tells it apart.

    Raises:
        ConfigurationError: the extra is not installed.
    """
    global _telemetry
    if settings.tracing_endpoint is None or _telemetry is not None:
        return
    try:
        from jobs.telemetry import OpenTelemetry
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"EDICT_TRACING_ENDPOINT is set, and {error.name} is not installed; run "
            "pip install 'edict[tracing]', or leave the variable out"
        ) from None
    _telemetry = OpenTelemetry(settings.tracing_endpoint, service, resource)


def stop_tracing() -> None:
    """Send what was not sent yet, for seconds at most; for those who end without Python's exit."""
    if _telemetry is not None:
        _telemetry.close()


def span(
    name: str,
    *,
    kind: Kind = "internal",
    parent: object = None,
    links: Iterable[object] = (),
    **attributes: Attribute,
) -> AbstractContextManager[None]:
    """Trace what happens inside; an exception that leaves it marks it as failed, by its class.

    `parent` is the `traceparent` that it belongs to, `links` those that it also has to do with;
    what is none counts as if it were not there. Without parent: the span around it, or none.
    """
    if _telemetry is None:
        return _OFF
    return _telemetry.span(name, kind, parent, links, attributes)


def traceparent() -> str | None:
    """Of the span around the caller, for rows and messages; None: there is none."""
    return None if _telemetry is None else _telemetry.traceparent()


def note(name: str | None = None, **attributes: Attribute) -> None:
    """Give the span around the caller what is known only now: a name, attributes."""
    if _telemetry is not None:
        _telemetry.note(name, attributes)


def fail(code: str) -> None:
    """Mark the span around the caller as failed with this code."""
    if _telemetry is not None:
        _telemetry.fail(code)


def watch(client: "S3Client") -> None:
    """Have a client's requests be spans, where they are made inside of one."""
    if _telemetry is not None:
        _telemetry.watch(client)
