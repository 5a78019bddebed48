"""Pictures of jobs that still run, for whoever looks at them right now.

They lie in Redis, which forgets them by itself: when the job has ended and the worker took them
away, or soon after the worker died. A worker makes none unless somebody asked lately.
"""

from uuid import UUID

from celery import Celery

from jobs.dispatch import ask_redis

KEPT_SECONDS = 60
"""A picture that no newer one replaced is gone after this time."""
ASKED_SECONDS = 20
"""Whoever looks asks again within this time."""


class Previews:
    """The pictures of all jobs, by the job's id. All methods raise `ServiceUnavailable`."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def ask(self, job_id: UUID) -> None:
        """Say that somebody looks."""
        ask_redis(self._app, lambda redis: redis.set(_asked(job_id), b"1", ex=ASKED_SECONDS))

    def is_asked(self, job_id: UUID) -> bool:
        """Whether somebody looks."""
        return bool(ask_redis(self._app, lambda redis: redis.exists(_asked(job_id))))

    def put(self, job_id: UUID, data: bytes) -> None:
        """Show this WebP instead of the one before."""
        ask_redis(self._app, lambda redis: redis.set(_key(job_id), data, ex=KEPT_SECONDS))

    def get(self, job_id: UUID) -> bytes | None:
        """The picture as it is now, if there is one."""
        found: bytes | None = ask_redis(self._app, lambda redis: redis.get(_key(job_id)))
        return found

    def delete(self, job_id: UUID) -> None:
        """Show nothing any more."""
        ask_redis(self._app, lambda redis: redis.delete(_key(job_id)))


def _key(job_id: UUID) -> str:
    return f"edict:preview:{job_id}"


def _asked(job_id: UUID) -> str:
    return f"edict:preview-asked:{job_id}"
