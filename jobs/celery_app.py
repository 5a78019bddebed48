"""The Celery app's configuration; both arms make their app here.

Redis is a hint: results are ignored (SQL is the truth), a message is acknowledged after its task
(a killed worker's message comes back late and then finds nothing to claim), and nothing but JSON
is accepted. See `jobs.store` for what makes repeated and lost messages harmless.
"""

from typing import Any

from celery import Celery

from jobs.errors import ServiceUnavailable
from jobs.forgeries import be_careful
from jobs.redis_url import redis_url, trust_remedy
from jobs.settings import Settings, without_password

VISIBILITY_TIMEOUT_SECONDS = 3_600
"""Unacknowledged messages come back after this time. Leases have re-sent their jobs long before."""

_SOCKET: dict[str, Any] = {
    "socket_timeout": 30,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 10,
    "retry_on_timeout": True,
}

ANNOUNCE_SECONDS = 1.5
_HASTY: dict[str, Any] = {
    "socket_timeout": ANNOUNCE_SECONDS,
    "socket_connect_timeout": ANNOUNCE_SECONDS,
    "retry_on_timeout": False,
}
"""Somebody waits for a producer, and a hint is not worth the wait. (Workers may wait: they block on
Redis until there is work.)"""

_RECONNECT = {"max_retries": 1, "interval_start": 0.1}
"""A producer that meets a dead Redis says so at once: the rows are committed, and the control
process announces them later. (Workers wait for it: Celery's consumer has a policy of its own.)"""


def make_producers_app(settings: Settings) -> Celery:
    """The app of those that only send: it gives up soon on a Redis that does not answer.

    Raises:
        ConfigurationError: see `redis_url`.
    """
    app = make_app(settings)
    app.conf.broker_transport_options |= _HASTY
    return app


def make_app(settings: Settings) -> Celery:
    """Make the app that talks to `settings.redis_url`; nothing is connected yet.

    Raises:
        ConfigurationError: see `redis_url`.
    """
    be_careful()
    app = Celery("edict", broker=redis_url(settings))
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        task_ignore_result=True,
        task_acks_late=True,
        # A shard's jobs record their own failures; its message has done its duty either way.
        task_acks_on_failure=True,
        task_reject_on_worker_lost=False,
        task_create_missing_queues=True,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        # Else each of our lines becomes a part of one of Celery's.
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        # Else Celery gives up after some 45 minutes, and its process ends.
        broker_connection_max_retries=None,
        broker_connection_timeout=5,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_TIMEOUT_SECONDS,
            # Fair between a model's queue and that of jobs pinned to its revision. (Urgent jobs
            # are taken by others: see `worker.express`. kombu keeps the queues of a Redis channel
            # in a set: its "priority" is no order.)
            "queue_order_strategy": "round_robin",
            **_SOCKET,
            **_RECONNECT,
        },
        enable_utc=True,
    )
    return app


def check_broker(app: Celery) -> None:
    """Connect once.

    Raises:
        ServiceUnavailable: with the URL less its password and the driver's reason.
    """
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(timeout=5, **_RECONNECT)
    except Exception as error:  # kombu hands on whatever its transport raised
        url = without_password(str(app.conf.broker_url))
        raise ServiceUnavailable(
            f"Redis {url} does not answer: {error}. {trust_remedy(str(error))}"
            "Check that it runs and EDICT_REDIS_URL"
        ) from None
