"""Pictures of jobs that still run, and how far they are, for whoever looks at them right now.

They lie in Redis, which forgets them by itself: when the job has ended and the worker took them
away, or soon after the worker died. A worker makes none unless somebody asked lately.
"""

import re
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from celery import Celery

from jobs.dispatch import ask_redis

KEPT_SECONDS = 60
"""A picture that no newer one replaced is gone after this time."""
ASKED_SECONDS = 20
"""Whoever looks asks again within this time."""
TOLD_SECONDS = 10
"""A worker says every second or so how far a job is."""

_STAGE = re.compile(r"(inverting|editing|reconstructing) (\d{1,4}) (\d{1,4})")


@dataclass(frozen=True)
class Stage:
    """What is being done for a job."""

    doing: str
    """`inverting`, `editing` or `reconstructing`."""
    step: int
    """From 1 to `steps`."""
    steps: int

    def __str__(self) -> str:
        return f"{self.doing} {self.step} {self.steps}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read it as it was written; None: it is none, as whoever has Redis may write anything."""
        found = _STAGE.fullmatch(text)
        return None if found is None else cls(found[1], int(found[2]), int(found[3]))


@dataclass(frozen=True)
class Shown:
    """What there is to show of a job that runs."""

    picture: bytes | None = None
    """A WebP."""
    stage: Stage | None = None


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

    def tell(self, job_id: UUID, stage: Stage) -> None:
        """Say how far the job is."""
        told, text = _told(job_id), str(stage)
        ask_redis(self._app, lambda redis: redis.set(told, text, ex=TOLD_SECONDS))

    def shown(self, job_id: UUID) -> Shown:
        """All that there is to show now."""
        keys = [_key(job_id), _told(job_id)]
        picture, told = ask_redis(self._app, lambda redis: redis.mget(keys))
        stage = None if told is None else Stage.parse(told.decode("ascii", "replace"))
        return Shown(picture, stage)

    def delete(self, job_id: UUID) -> None:
        """Show nothing any more."""
        ask_redis(self._app, lambda redis: redis.delete(_key(job_id), _told(job_id)))


def _key(job_id: UUID) -> str:
    return f"edict:preview:{job_id}"


def _told(job_id: UUID) -> str:
    return f"edict:preview-told:{job_id}"


def _asked(job_id: UUID) -> str:
    return f"edict:preview-asked:{job_id}"
