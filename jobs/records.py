"""Rows as callers see them: frozen, and never more than what was read."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from jobs.errors import InvalidInput
from jobs.lanes import Lane, lane_of
from jobs.results import Result
from jobs.specs import Spec, invalid_input, parse_spec
from jobs.states import State


@dataclass(frozen=True)
class Batch:
    """A named (or nameless) collection of jobs; a job may be in several."""

    id: UUID
    name: str | None
    created_at: datetime
    paused_at: datetime | None = None
    """Since when none of its jobs is started."""
    tenant: str | None = None
    """Whose it is; its name then begins with that and a slash."""


@dataclass(frozen=True)
class Job:
    """A job as its row says.

    Its spec and result are read when they are asked for: one that another version of this program
    wrote may be unreadable, and must not hide the other jobs of its list (see `unreadable`).
    """

    id: UUID
    kind: str
    stored_spec: Mapping[str, Any]
    model: str
    """`name`, or `name@revision` where the job is pinned."""
    priority: int
    state: State
    paused: bool
    """Whether it is held back because one of its batches is paused."""
    created_at: datetime
    due_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    attempts: int
    worker: str | None
    lease_until: datetime | None
    progress: float | None
    error_code: str | None
    error_message: str | None
    stored_result: Mapping[str, Any] | None
    tenant: str | None = None

    @cached_property
    def spec(self) -> Spec:
        """What it is asked to do.

        Raises:
            InvalidInput: this version cannot read it.
        """
        return parse_spec(dict(self.stored_spec))

    @cached_property
    def result(self) -> Result | None:
        """What came of it; None before it succeeded.

        Raises:
            InvalidInput: this version cannot read it.
        """
        if self.stored_result is None:
            return None
        try:
            return Result.model_validate(dict(self.stored_result))
        except ValidationError as error:
            raise invalid_input(error) from None

    @cached_property
    def unreadable(self) -> str | None:
        """Why this version cannot read the spec or the result; None where it can."""
        try:
            _ = self.spec, self.result
        except InvalidInput as error:
            return f"written by another version of edict: {error}"
        return None

    @property
    def lane(self) -> Lane:
        """Whether somebody waits for it."""
        return lane_of(self.priority)

    @property
    def last_seconds(self) -> float | None:
        """Seconds from its last start to its end; None while it has not ended."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()


@dataclass(frozen=True)
class Submission:
    """What became of one submitted spec."""

    job_id: UUID
    state: State
    created: bool
    """False: the same spec was submitted before, and this is its job."""


@dataclass(frozen=True)
class DueJob:
    """What the dispatcher needs to know to put jobs into shards, and those on their queue."""

    id: UUID
    model: str
    inversion_digest: str
    priority: int = 0
    queued_at: datetime | None = None
    losses: int = 0
    traceparent: str | None = None
    """Of the trace that it was submitted in."""

    @property
    def lane(self) -> Lane:
        """The lane whose queue its message goes to."""
        return lane_of(self.priority)


@dataclass(frozen=True)
class Claim:
    """The right to run a job and to write its end, as long as `token` is the row's."""

    job_id: UUID
    token: int
    spec: Spec
    attempt: int
    priority: int = 0
    losses: int = 0
    """Workers that fell silent while they ran it: if any, it is to run alone."""
    waited: float | None = None
    """Seconds from its announcement to this claim."""
    batch: UUID | None = None
    """One of its batches, for logs."""
    traceparent: str | None = None
    """Of the trace that it was submitted in."""


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
    lanes: int = 1
    """Images that it edits at once, at most."""

    @property
    def labels(self) -> tuple[str, str]:
        """Of the jobs that it can run: any of its model, and those pinned to its revision."""
        return self.model, f"{self.model}@{self.model_revision}"
