"""From rows to receivers: takes what is due, sends it, and writes down what became of it.

Runs beside the control process's loop, on threads of its own: a receiver that hangs delays nothing
but itself. Two control processes share the work; one that dies leaves what it took to be due again.
"""

import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog
from sqlalchemy.exc import SQLAlchemyError

from jobs.addresses import Network, parse_networks
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.webhooks import Delivery, shown_url
from producer.webhooks.post import DEADLINE_SECONDS, NeverDelivered, NotDelivered, post
from producer.webhooks.signing import Signer

INTERVAL_SECONDS = 1.0
AT_ONCE = 16
RETRIES = (5.0, 30.0, 120.0, 600.0, 1_800.0, 7_200.0, 21_600.0, 43_200.0)
"""Seconds between one try and the next: a receiver may be away for about a day."""
PATIENCE_SECONDS = 60.0
"""After this time what was taken and not reported is due again; resolving a name has no limit of
ours."""

_log = structlog.get_logger()


class WebhookSender:
    """Sends what the store says is due. Without a signer, says on the rows that one is missing."""

    def __init__(
        self,
        store: JobStore,
        signer: Signer | None,
        allowed: Sequence[Network] = (),
        *,
        seconds: float = DEADLINE_SECONDS,
    ) -> None:
        self._store = store
        self._signer = signer
        self._allowed = allowed
        self._seconds = seconds
        self._free = threading.Semaphore(AT_ONCE)

    @classmethod
    def from_settings(cls, store: JobStore, settings: Settings) -> "WebhookSender":
        """Make the sender.

        Raises:
            ConfigurationError: the secret is none.
        """
        secret = settings.webhook_secret
        signer = Signer(secret.get_secret_value()) if secret else None
        return cls(store, signer, parse_networks(settings.webhook_allow))

    def run(self, stop: threading.Event) -> None:
        """Send until told to stop; what is on its way then is waited for."""
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook") as pool:
            while not stop.is_set():
                try:
                    self.look(pool)
                except SQLAlchemyError as error:
                    _log.warning("webhooks.waiting", reason=str(error).splitlines()[0])
                stop.wait(INTERVAL_SECONDS)

    def look(self, pool: ThreadPoolExecutor) -> int:
        """Start sending all that is due and that there is room for; says how many."""
        self._store.tell_ended_batches()
        room = 0
        while room < AT_ONCE and self._free.acquire(blocking=False):
            room += 1
        taken: list[Delivery] = []
        try:
            if room:
                taken = self._store.take_deliveries(room, patience=PATIENCE_SECONDS)
        finally:
            for _ in range(room - len(taken)):
                self._free.release()
        for delivery in taken:
            pool.submit(self._deliver, delivery)
        return len(taken)

    def _deliver(self, delivery: Delivery) -> None:
        try:
            self.deliver(delivery)
        except Exception:
            # It is due again after a while; the thread goes on to others.
            _log.exception("webhook.unrecorded", webhook=str(delivery.id))
        finally:
            self._free.release()

    def deliver(self, delivery: Delivery) -> None:
        """Send one, and write down what became of it."""
        try:
            status = self._send(delivery)
        except NotDelivered as error:
            self._postpone(delivery, error)
        else:
            self._store.record_delivered(delivery, status)
            _log.info("webhook.delivered", **_fields(delivery), status=status)

    def _send(self, delivery: Delivery) -> int:
        if self._signer is None:
            raise NotDelivered(
                "EDICT_WEBHOOK_SECRET is not set where `edict control` runs; "
                "`edict webhooks secret` makes one"
            )
        body, headers = self._signer.sign(delivery)
        return post(delivery.url, body, headers, allowed=self._allowed, seconds=self._seconds)

    def _postpone(self, delivery: Delivery, error: NotDelivered) -> None:
        over = isinstance(error, NeverDelivered) or delivery.attempts > len(RETRIES)
        retry_in = None if over else backoff(delivery.attempts)
        self._store.record_undelivered(delivery, str(error), status=error.status, retry_in=retry_in)
        _log.warning("webhook.undelivered", **_fields(delivery), reason=str(error), final=over)


def backoff(attempt: int) -> float:
    """Seconds until the next try, spread so that tries do not meet."""
    return RETRIES[attempt - 1] * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret


def start_sender(store: JobStore, settings: Settings, stop: threading.Event) -> threading.Thread:
    """Send in the background until `stop` is set.

    Raises:
        ConfigurationError: the secret is none.
    """
    sender = WebhookSender.from_settings(store, settings)
    # A daemon: a receiver that hangs must not keep the process from ending.
    thread = threading.Thread(target=sender.run, args=[stop], name="webhooks", daemon=True)
    thread.start()
    return thread


def _fields(delivery: Delivery) -> dict[str, object]:
    return {
        "webhook": str(delivery.id),
        "of": delivery.event,
        "url": shown_url(delivery.url),
        "attempt": delivery.attempts,
    }
