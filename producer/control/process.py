"""One control process: a Celery worker of the control queue, and what goes on beside it."""

import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import structlog
from celery import Celery
from celery.worker import WorkController, state
from sqlalchemy.exc import SQLAlchemyError

from jobs.celery_app import make_app
from jobs.errors import JobsError
from jobs.settings import Settings
from producer.client import Client
from producer.control.beat import CONTROL_QUEUE, Beat, schedule_chores, task_name
from producer.control.chores import WATCHED, Chore, chores
from producer.control.expiry import LeaseExpiry
from producer.control.pulse import Pulse
from producer.metrics import metrics_server
from producer.webhooks.sender import start_sender

WAKE_SECONDS = 0.5

_log = structlog.get_logger()


def run_control(
    settings: Settings, stop: threading.Event, *, metrics_port: int | None = None
) -> int:
    """Do the chores that are asked for until `stop` is set; outages are waited out.

    With `metrics_port`, tell Prometheus there how the deployment stands. Returns the exit status.

    Raises:
        ConfigurationError: the URL of the database or of Redis is not one, or the port is taken.
    """
    client = Client(settings)
    status = os.EX_OK
    if client.wait_for_services(stop):
        _log.info("control.started")
        webhooks = start_sender(client.store, settings, stop)
        pulse = Pulse(WATCHED)
        with (
            metrics_server(client.store, metrics_port, pulse),
            _judging(client, stop) as expiry,
        ):
            status = _consume(settings, chores(client, expiry, stop), pulse, stop)
        webhooks.join()
    client.close()
    _log.info("control.stopped")
    return status


@contextmanager
def _judging(client: Client, stop: threading.Event) -> Iterator[LeaseExpiry]:
    """Listen to the database meanwhile, so as to know whose leases may be judged."""
    expiry = LeaseExpiry(client.store, lease=client.settings.lease_seconds)
    thread = threading.Thread(target=expiry.listen_until, args=[stop], name="expiry")
    thread.start()
    try:
        yield expiry
    finally:
        stop.set()
        thread.join()


def _consume(settings: Settings, work: Sequence[Chore], pulse: Pulse, stop: threading.Event) -> int:
    """Keep time, or wait to, and do what the queue asks for; returns the exit status."""
    app = make_app(settings)
    schedule_chores(app, work)
    for chore in work:
        _add_task(app, chore, pulse)
    consumer = WorkController(
        app=app,
        hostname=f"control@{socket.gethostname()}-{os.getpid()}",
        queues=[CONTROL_QUEUE],
        pool="threads",
        # One that takes an hour must not keep the others from being done, nor from being skipped.
        concurrency=len(work) + 1,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    # Its loop sleeps up to ten seconds otherwise, whoever wants it to end.
    consumer.timer.call_repeatedly(WAKE_SECONDS, lambda: None)
    threading.Thread(target=_end, args=[stop], name="stop", daemon=True).start()
    beat = Beat(app, pulse, stop)
    beat.start()
    try:
        consumer.start()
    finally:
        beat.end()
    return int(consumer.exitcode or os.EX_OK)


def _end(stop: threading.Event) -> None:
    stop.wait()
    # What Celery's own handlers of signals set; its loop looks at it.
    state.should_stop = os.EX_OK


def _add_task(app: Celery, chore: Chore, pulse: Pulse) -> None:
    do = once_at_a_time(chore, pulse)

    # A tick that is lost with its process is followed by the next one.
    @app.task(name=task_name(chore.name), acks_late=False)  # type: ignore[untyped-decorator]
    def run() -> None:
        do()


def once_at_a_time(chore: Chore, pulse: Pulse) -> Callable[[], None]:
    """What does a chore unless it is being done here; its errors are told, never raised."""
    free = threading.Lock()

    def do() -> None:
        if not free.acquire(blocking=False):
            return
        try:
            with pulse.during(chore.name):
                chore.run()
        except (JobsError, SQLAlchemyError) as error:
            _log.warning("control.waiting", chore=chore.name, reason=str(error).splitlines()[0])
        except Exception:
            # A bug in one chore must not keep the others, or its own next run, from their work.
            _log.exception("control.failed", chore=chore.name)
        finally:
            free.release()

    return do
