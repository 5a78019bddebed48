"""The control process: announces what is due, brings back what was lost, fires schedules, prunes.

Safe to run twice, and to kill at any time. Nothing it knows is its own: every step is a statement
that names the state it leaves, or is done under a lease in SQL, so that of two processes that see
the same thing to do one does it, and an emptied Redis takes nothing away. (A scheduler that keeps
its times in Redis could not promise that, and a leader would only add the time until a dead one is
missed.)

Each chore has a thread: a bucket that takes an hour to list must not keep jobs from their workers.
"""

import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import SQLAlchemyError

from jobs.dispatch import dispatch, reconcile
from jobs.errors import JobsError
from jobs.records import DueJob
from jobs.settings import Settings
from jobs.store.base import utc_now
from producer.client import Client
from producer.expiry import LeaseExpiry
from producer.metrics import ACTIONS, metrics_server
from producer.pulse import Pulse
from producer.retention import Pruner
from producer.schedules.due import make_firings
from producer.schedules.fire import Firer
from producer.webhooks.sender import start_sender

_log = structlog.get_logger()

INTERVAL_SECONDS = 1.0
SETTLE_SECONDS = 10.0
PRUNE_SECONDS = 3_600.0
"""Between two runs, whichever process makes them."""


WATCHED = ("leases", "jobs")
"""Chores that are never long: one that does not end shows that the process hangs."""


@dataclass(frozen=True)
class Chore:
    """Something to be done again and again."""

    name: str
    run: Callable[[], object]
    every: float = INTERVAL_SECONDS
    """Seconds from the end of one run to the next."""


def run_control(
    settings: Settings, stop: threading.Event, *, metrics_port: int | None = None
) -> None:
    """Do every chore in a thread of its own until `stop` is set; outages are waited out.

    With `metrics_port`, tell Prometheus there how the deployment stands.

    Raises:
        ConfigurationError: the URL of the database or of Redis is not one, or the port is taken.
    """
    client = Client(settings)
    if client.wait_for_services(stop):
        _log.info("control.started")
        webhooks = start_sender(client.store, settings, stop)
        pulse = Pulse(WATCHED)
        with (
            metrics_server(client.store, metrics_port, pulse),
            _threads(chores(client, stop), pulse, stop),
        ):
            stop.wait()
        webhooks.join()
    client.close()
    _log.info("control.stopped")


def chores(client: Client, stop: threading.Event) -> list[Chore]:
    """All that a control process does."""
    store, app, settings = client.store, client.app, client.settings
    holder = f"{socket.gethostname()}:{os.getpid()}"
    firer = Firer(client, holder, stop, lease=settings.lease_seconds)
    pruner = Pruner(store, client.objects, stop)
    expiry = LeaseExpiry(store, lease=settings.lease_seconds)

    def announce() -> None:
        lost = reconcile(store, app, redeliver_after=settings.redeliver_seconds)
        ACTIONS.labels("announced_again").inc(lost)
        sent = dispatch(store, app, window=settings.announce_window, say=_say_announced)
        ACTIONS.labels("announced").inc(sent)

    def expire() -> None:
        ACTIONS.labels("expired").inc(expiry.look())

    def fire() -> None:
        make_firings(store, utc_now())
        store.skip_overlapping()
        while not stop.is_set() and firer.fire_one():
            pass

    def prune() -> None:
        if store.take_turn("prune", every=PRUNE_SECONDS):
            pruner.run()

    return [
        Chore("leases", expire),
        Chore("jobs", announce),
        Chore("tallies", store.fold_tallies),
        Chore("schedules", fire),
        Chore("firings", store.settle_firings, every=SETTLE_SECONDS),
        Chore("retention", prune, every=SETTLE_SECONDS),
    ]


def _say_announced(due: Sequence[DueJob]) -> None:
    _log.info("jobs.announced", jobs=[str(job.id) for job in due])


@contextmanager
def _threads(work: list[Chore], pulse: Pulse, stop: threading.Event) -> Iterator[None]:
    threads = [
        threading.Thread(target=_repeat, args=(each, pulse, stop), name=each.name) for each in work
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _repeat(chore: Chore, pulse: Pulse, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            chore.run()
        except (JobsError, SQLAlchemyError) as error:
            _log.warning("control.waiting", chore=chore.name, reason=str(error).splitlines()[0])
        except Exception:
            # A bug in one chore must not keep the others, or its own next run, from their work.
            _log.exception("control.failed", chore=chore.name)
        pulse.beat(chore.name)
        stop.wait(chore.every)
