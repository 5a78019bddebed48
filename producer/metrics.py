"""What Prometheus is told: how the whole deployment stands, read from SQL at every scrape.

SQL is the truth, so that the figures do not depend on which process is asked or how long it has
lived: two control processes tell the same, and queries take the `max` of both. Labels are few:
states, error codes, lanes, models.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import prometheus_client
import structlog
from prometheus_client import CollectorRegistry, Metric, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from jobs.errors import ConfigurationError
from jobs.records import Worker
from jobs.store import JobStore
from jobs.store.measuring import Figures
from producer.control.pulse import Pulse

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication

LIVE_SECONDS = 60.0
"""A worker counts that gave a sign of life in this time."""

STALLED_SECONDS = 120.0
"""A chore that takes so long hangs: outages end it in an error much sooner."""

ACTIONS = prometheus_client.Counter(
    "edict_control_actions",
    "What this control process did to jobs: announced, announced_again, expired (a lease).",
    ["action"],
    registry=None,
)
"""The only figure that is a process's own: take the sum of both."""

_log = structlog.get_logger()


class Standing(Collector):
    """How the deployment stands. A database that does not answer is a figure, too."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance: registering must not need the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read all figures."""
        try:
            figures = self._store.measure()
            workers = self._store.live_workers(seen_within=LIVE_SECONDS)
        except SQLAlchemyError as error:
            _log.warning("metrics.unread", reason=str(error).splitlines()[0])
            yield GaugeMetricFamily("edict_database_up", _UP, value=0)
            return
        yield GaugeMetricFamily("edict_database_up", _UP, value=1)
        yield from _of_jobs(figures)
        yield from _of_workers(workers)


_UP = "Whether the database answered this scrape."


def _of_jobs(figures: Figures) -> Iterator[Metric]:
    yield _gauge("edict_jobs", "Jobs by state.", "state", figures.jobs)
    yield _gauge("edict_jobs_failed", "Failed jobs by error code.", "code", figures.failures)
    yield _gauge(
        "edict_queue_oldest_seconds",
        "How long the job has been due that waits longest for a worker.",
        "lane",
        figures.waiting,
    )
    yield GaugeMetricFamily(
        "edict_leases_overdue",
        "Running jobs whose worker fell silent and that nobody took over yet.",
        value=figures.overdue_leases,
    )
    yield _gauge(
        "edict_webhook_deliveries", "Webhook deliveries by state.", "state", figures.deliveries
    )


def _of_workers(workers: Iterable[Worker]) -> Iterator[Metric]:
    processes: Counter[str] = Counter()
    lanes: Counter[str] = Counter()
    for worker in workers:
        processes[worker.model] += 1
        lanes[worker.model] += worker.lanes
    yield _gauge("edict_workers", "Worker processes that live.", "model", processes)
    yield _gauge("edict_worker_lanes", "Images that they edit at once, at most.", "model", lanes)


def _gauge(name: str, text: str, label: str, values: dict[str, int] | dict[str, float]) -> Metric:
    metric = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        metric.add_metric([key], value)
    return metric


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """A line for each scrape would be all that the log holds."""


def _answers(registry: CollectorRegistry, pulse: Pulse) -> "WSGIApplication":
    metrics: WSGIApplication = make_wsgi_app(registry)

    def answer(environ: dict[str, Any], start: "StartResponse") -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/livez":
            return metrics(environ, start)
        late = pulse.late(STALLED_SECONDS)
        start("503 Service Unavailable" if late else "200 OK", [("Content-Type", "text/plain")])
        said = f"no end for {STALLED_SECONDS:g} s: {', '.join(late)}" if late else "ok"
        return [f"{said}\n".encode()]

    return answer


@contextmanager
def metrics_server(store: JobStore, port: int | None, pulse: Pulse) -> Iterator[None]:
    """Answer scrapes at `port`, on all addresses, meanwhile; None: do not.

    `/livez` says whether the chores of `pulse` get on: 200, or 503 with those that hang.

    Raises:
        ConfigurationError: the port is taken or forbidden.
    """
    if port is None:
        yield
        return
    registry = CollectorRegistry()
    registry.register(Standing(store))
    registry.register(ACTIONS)
    try:
        server = make_server("", port, _answers(registry, pulse), _Server, _Silent)
    except OSError as error:
        raise ConfigurationError(
            f"--metrics-port {port} cannot be listened at: {error.strerror}; choose another"
        ) from None
    thread = Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
