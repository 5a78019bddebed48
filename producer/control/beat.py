"""Who asks for the chores: Celery beat, with the lock and the times of redbeat in Redis.

Every control process has a beat; the one that holds the lock keeps time, and another takes over
within `LOCK_SECONDS` of its end. Nothing that is in Redis is needed: a beat that gets the lock
starts on a clean slate, by its own clock, writes its entries again where they are gone, and starts
anew when the lock is.
"""

import threading
import time
from collections.abc import Sequence
from typing import Any

import structlog
from celery import Celery
from celery.beat import Service
from kombu.exceptions import OperationalError
from redbeat import RedBeatScheduler
from redbeat.schedulers import get_redis
from redis.exceptions import RedisError

from jobs.errors import ServiceUnavailable
from jobs.redis_url import SOCKET_SCHEME
from producer.control.chores import Chore
from producer.control.pulse import Pulse

CONTROL_QUEUE = "edict.control"
"""Of chores alone; a worker's queues have the lane in this place."""

LOCK_SECONDS = 10
_TICK_SECONDS = 1
_STALE_SECONDS = 60
"""A message that waited so long is not worth a chore: newer ones are behind it."""

_PREFIX = "edict:beat:"
_AGAIN_SECONDS = 1.0

_log = structlog.get_logger()


def task_name(chore: str) -> str:
    """The name of the task that does a chore."""
    return f"edict.control.{chore}"


def schedule_chores(app: Celery, work: Sequence[Chore]) -> None:
    """Tell the app's beat of `work`; nothing is connected yet."""
    url = str(app.conf.broker_url)
    app.conf.update(
        beat_schedule={
            each.name: {
                "task": task_name(each.name),
                "schedule": each.every,
                "options": {"queue": CONTROL_QUEUE, "expires": _STALE_SECONDS},
            }
            for each in work
        },
        # Else beat would ask for the results of tasks to be cleaned up; there are none.
        result_expires=None,
        beat_max_loop_interval=_TICK_SECONDS,
        redbeat_redis_url=url.replace(SOCKET_SCHEME, "unix://", 1),
        redbeat_redis_options={"socket_timeout": 5, "socket_connect_timeout": 5},
        redbeat_key_prefix=_PREFIX,
        redbeat_lock_timeout=LOCK_SECONDS,
    )


class ChoreScheduler(RedBeatScheduler):  # type: ignore[misc]
    """Redbeat's scheduler, that knows what it wants without looking into Redis."""

    _begun = False

    def setup_schedule(self) -> None:
        """Write nothing before the lock is ours: another keeps time, by another clock."""

    def tick(self, *arguments: Any, **options: Any) -> float:
        """Ask for what is due; returns the seconds to the next time.

        Raises:
            ServiceUnavailable: Redis was away when the lock was to be had.
        """
        if self.lock is None:
            raise ServiceUnavailable("Redis gave no lock to keep time by")
        if not self._begun or not _are_all_to_come(self.app):
            # A clean slate: what others may have put there is not asked for, or not read.
            _forget(self.app)
            super().setup_schedule()
            self._begun = True
        return float(super().tick(*arguments, **options))


def _are_all_to_come(app: Celery) -> bool:
    """Whether each chore is due soon; not, if it is gone, or our clock was set back."""
    every = [entry["schedule"] for entry in app.conf.beat_schedule.values()]
    soon = time.time() + max(every) + _TICK_SECONDS
    key = app.redbeat_conf.schedule_key
    return int(get_redis(app).zcount(key, "-inf", soon)) >= len(every)


def _forget(app: Celery) -> None:
    """Delete all that beat keeps in Redis but the lock."""
    redis = get_redis(app)
    ours = [f"{_PREFIX}{name}" for name in app.conf.beat_schedule]
    redis.delete(app.redbeat_conf.schedule_key, app.redbeat_conf.statics_key, *ours)


class Beat:
    """A thread that keeps time, or waits to; begins anew after every outage until `stop`."""

    def __init__(self, app: Celery, pulse: Pulse, stop: threading.Event) -> None:
        self._app = app
        self._pulse = pulse
        self._stop = stop
        self._service: Service | None = None
        # It may be waiting for the lock, which nobody can tell it not to.
        self._thread = threading.Thread(target=self._run, name="beat", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """Let go of the lock, if it is ours, for another to keep time at once."""
        self._stop.set()
        if self._service is not None:
            self._service.stop()
        self._thread.join(2 * _TICK_SECONDS)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._service = Service(self._app, scheduler_cls=ChoreScheduler)
            try:
                self._service.start()
            except (RedisError, OperationalError, ServiceUnavailable) as error:
                _log.warning("control.waiting", chore="beat", reason=str(error).splitlines()[0])
            except Exception:
                # Whatever was found in Redis: without time, no chore would be done any more.
                _log.exception("control.failed", chore="beat")
            # While Redis is away nobody asks for chores: none is late.
            self._pulse.excuse()
            self._stop.wait(_AGAIN_SECONDS)
