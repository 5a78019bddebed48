"""The control process: announces what is due, and brings back what was lost. Safe to run twice."""

import threading

import structlog
from sqlalchemy.exc import SQLAlchemyError

from jobs.celery_app import check_broker, make_app
from jobs.database import open_database
from jobs.dispatch import dispatch, reconcile
from jobs.errors import ServiceUnavailable
from jobs.services import check_tables, wait_for_services
from jobs.settings import Settings
from jobs.store import JobStore
from producer.webhooks.sender import start_sender

_log = structlog.get_logger()

INTERVAL_SECONDS = 1.0


def run_control(settings: Settings, stop: threading.Event) -> None:
    """Reconcile and dispatch every second until `stop` is set; outages are waited out.

    Raises:
        ConfigurationError: the URL of the database or of Redis is not one.
    """
    engine = open_database(settings.database_url.get_secret_value())
    store = JobStore(engine, max_attempts=settings.max_attempts)
    app = make_app(settings)
    checks = {"database": lambda: check_tables(engine), "redis": lambda: check_broker(app)}
    if wait_for_services(checks, stop):
        _log.info("control.started")
    webhooks = start_sender(store, settings, stop)
    while not stop.is_set():
        try:
            reconcile(store, app, redeliver_after=settings.redeliver_seconds)
            dispatch(store, app, window=settings.announce_window)
        except (ServiceUnavailable, SQLAlchemyError) as error:
            _log.warning("control.waiting", reason=str(error).splitlines()[0])
        stop.wait(INTERVAL_SECONDS)
    webhooks.join()
    app.close()
    engine.dispose()
    _log.info("control.stopped")
