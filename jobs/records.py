"""Rows as callers see them: frozen, and never more than what was read."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from jobs.results import Result
from jobs.specs import Spec
from jobs.states import State


@dataclass(frozen=True)
class Batch:
    """A named (or nameless) collection of jobs; a job may be in several."""

    id: UUID
    name: str | None
    created_at: datetime


@dataclass(frozen=True)
class Job:
    """A job as its row says."""

    id: UUID
    spec: Spec
    model: str
    priority: int
    state: State
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempts: int
    worker: str | None
    progress: float | None
    error_code: str | None
    error_message: str | None
    result: Result | None


@dataclass(frozen=True)
class Submission:
    """What became of one submitted spec."""

    job_id: UUID
    state: State
    created: bool
    """False: the same spec was submitted before, and this is its job."""


@dataclass(frozen=True)
class DueJob:
    """What the dispatcher needs to know to put jobs into shards."""

    id: UUID
    model: str
    inversion_digest: str
    losses: int = 0


@dataclass(frozen=True)
class Claim:
    """The right to run a job and to write its end, as long as `token` is the row's."""

    job_id: UUID
    token: int
    spec: Spec
    attempt: int
    losses: int = 0
    """Workers that fell silent while they ran it: if any, it is to run alone."""


@dataclass(frozen=True)
class InversionClaim:
    """The right to compute an image's noise, as long as `token` is the row's."""

    key: str
    digest: str
    token: int
    guilty: bool = False
    """Whether it must not be computed: too many workers fell silent over it and nothing else."""


@dataclass(frozen=True)
class StoredInversion:
    """What the row says of an inversion in the bucket."""

    sha256: str
    size: int
    """Bytes."""
    fingerprint: str


@dataclass(frozen=True)
class Worker:
    """A worker process as it last reported itself."""

    name: str
    host: str
    pid: int
    device: str
    model: str
    model_revision: str
    started_at: datetime
    seen_at: datetime
