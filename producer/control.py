"""The control process: announces what is due, and brings back what was lost. Safe to run twice."""

import threading

import structlog
from sqlalchemy.exc import SQLAlchemyError

from jobs.celery_app import make_app
from jobs.database import open_database
from jobs.dispatch import dispatch, reconcile
from jobs.errors import ServiceUnavailable
from jobs.settings import Settings
from jobs.store import JobStore
from producer.webhooks.sender import start_sender

_log = structlog.get_logger()

INTERVAL_SECONDS = 1.0


def run_control(settings: Settings, stop: threading.Event) -> None:
    """Reconcile and dispatch every second until `stop` is set; outages are waited out."""
    engine = open_database(settings.database_url.get_secret_value())
    store = JobStore(engine, max_attempts=settings.max_attempts)
    app = make_app(settings)
    webhooks = start_sender(store, settings, stop)
    _log.info("control.started")
    while not stop.is_set():
        try:
            reconcile(store, app, redeliver_after=settings.redeliver_seconds)
            dispatch(store, app)
        except (ServiceUnavailable, SQLAlchemyError) as error:
            _log.warning("control.waiting", reason=str(error).splitlines()[0])
        stop.wait(INTERVAL_SECONDS)
    webhooks.join()
    app.close()
    engine.dispose()
    _log.info("control.stopped")
