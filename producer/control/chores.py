"""What the control process does again and again."""

import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from jobs.dispatch import dispatch, reconcile
from jobs.records import DueJob
from jobs.store.base import utc_now
from producer.client import Client
from producer.control.expiry import LeaseExpiry
from producer.metrics import ACTIONS
from producer.retention import Pruner
from producer.schedules.due import make_firings
from producer.schedules.fire import Firer

_log = structlog.get_logger()

INTERVAL_SECONDS = 1.0
SETTLE_SECONDS = 10.0
PRUNE_SECONDS = 3_600.0
"""Between two runs, whichever process makes them."""

WATCHED = ("leases", "jobs")
"""Chores that are never long: one that does not end shows that the process hangs."""


@dataclass(frozen=True)
class Chore:
    """Something to be done again and again, by whichever process is asked."""

    name: str
    run: Callable[[], object]
    every: float = INTERVAL_SECONDS
    """Seconds between two times of asking for it."""


def chores(client: Client, expiry: LeaseExpiry, stop: threading.Event) -> list[Chore]:
    """All that a control process does; what takes long ends early once `stop` is set."""
    store, app, settings = client.store, client.app, client.settings
    holder = f"{socket.gethostname()}:{os.getpid()}"
    firer = Firer(client, holder, stop, lease=settings.lease_seconds)
    pruner = Pruner(store, client.objects, stop)

    def announce() -> None:
        lost = reconcile(store, app, redeliver_after=settings.redeliver_seconds)
        ACTIONS.labels("announced_again").inc(lost)
        sent = dispatch(store, app, window=settings.announce_window, say=_say_announced)
        ACTIONS.labels("announced").inc(sent)

    def expire() -> None:
        ACTIONS.labels("expired").inc(expiry.expire())

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
