"""What is answered: the rows of `producer.plain`, described for OpenAPI."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from jobs.marks import Verdict
from jobs.schedules import CatchUp, FiringState, Overlap, Reason
from jobs.states import State


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    message: str | None


class JobShape(BaseModel):
    """A job."""

    id: UUID
    kind: str
    state: State
    paused: bool
    model: str
    priority: int
    lane: str
    attempts: int
    worker: str | None
    progress: float | None
    error: JobError | None
    times: dict[str, datetime | None]
    seconds: float | None
    spec: dict[str, Any]
    result: dict[str, Any] | None
    unreadable: str | None


class BatchShape(BaseModel):
    """A batch, and how many of its jobs are in each state."""

    id: UUID
    name: str | None
    created: datetime
    paused: datetime | None
    counts: dict[State, int]


class SubmissionShape(BaseModel):
    """What became of one row."""

    id: UUID
    state: State
    created: bool
    """False: the same was asked before, and this is its job."""


class Loaded(BaseModel):
    """What a manifest came to."""

    rows: int
    created: int
    """Jobs."""
    known: int
    """Jobs that were there before, or are twice in the manifest."""
    passed_over: int
    """Rows of pieces that the batch had already."""


class MadeBatch(BaseModel):
    """A batch, and its jobs in the order of the rows; of a manifest, their number."""

    id: UUID
    jobs: list[SubmissionShape]
    manifest: Loaded | None = None


class JobPage(BaseModel):
    """Jobs, newest first; `next` is the cursor of the following page, null at the end."""

    items: list[JobShape]
    next: UUID | None


class BatchPage(BaseModel):
    """Batches, newest first; `next` is the cursor of the following page, null at the end."""

    items: list[BatchShape]
    next: UUID | None


class ResultFile(BaseModel):
    """A file that a job made; `url` gives it to anybody, until it expires."""

    role: str
    key: str
    sha256: str
    size: int
    url: str
    expires: datetime


class Results(BaseModel):
    """The files of a job."""

    items: list[ResultFile]


class MarkShape(BaseModel):
    """What people say of a job's result; null: nothing."""

    id: UUID
    verdict: Verdict | None


class Count(BaseModel):
    """How many jobs changed."""

    jobs: int


class WorkerJob(BaseModel):
    """A job in a worker's hand."""

    id: UUID
    kind: str
    progress: float | None
    started: datetime | None


class WorkerShape(BaseModel):
    """A worker process."""

    name: str
    host: str
    pid: int
    device: str
    model: str
    revision: str
    lanes: int
    started: datetime
    seen: datetime
    alive: bool
    jobs: list[WorkerJob]


class Workers(BaseModel):
    """All worker processes, last heard of first."""

    items: list[WorkerShape]


class Models(BaseModel):
    """Names of models."""

    items: list[str]


class Ready(BaseModel):
    """Whether each service answers; why one does not is in the server's log."""

    ready: bool
    checks: dict[str, bool]


class UploadShape(BaseModel):
    """Where to upload an image, and what it is called in a job then."""

    source: str
    url: str
    fields: dict[str, str]
    expires: datetime


class AuditedShape(BaseModel):
    """A submission over HTTP."""

    id: UUID
    at: datetime
    key: str
    tenant: str | None
    jobs: int
    bytes: int
    job: UUID | None
    batch: UUID | None


class AuditPage(BaseModel):
    """Submissions, newest first; `next` is the cursor of the following page, null at the end."""

    items: list[AuditedShape]
    next: UUID | None


class ScheduleShape(BaseModel):
    """A schedule."""

    name: str
    cron: str
    words: str
    timezone: str
    source: str
    base_prompt: str
    edit_prompts: list[str]
    model: str
    select: list[Reason]
    catch_up: CatchUp
    overlap: Overlap
    created: datetime
    paused: datetime | None
    next: datetime


class Schedules(BaseModel):
    """All schedules, by name."""

    items: list[ScheduleShape]


class FiringShape(BaseModel):
    """A firing of a schedule."""

    id: UUID
    due: datetime
    state: FiringState
    manual: bool
    finished: datetime | None
    batch: UUID | None
    images: int
    jobs: int
    refused: int
    note: str | None


class Firings(BaseModel):
    """Firings, newest first."""

    items: list[FiringShape]
