"""Schedules as callers see them: what fires when, on which images, and what became of it.

           claim              all rows read         the batch's jobs have ended
waiting ─────────► firing ─────────────────► running ─────────────────────────► done
   │                │  └── nothing to do ────────────────────────────────────────▲
   └──► skipped     └──► failed
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from jobs.specs import digest_of


class FiringState(StrEnum):
    """Where a firing stands."""

    WAITING = "waiting"
    """Its time has come; nobody has begun, or an earlier one is to end first."""
    FIRING = "firing"
    """A control process holds the lease and submits jobs."""
    RUNNING = "running"
    """All is submitted; some of its jobs have not ended."""
    DONE = "done"
    """Its jobs have ended, or there was nothing to do."""
    SKIPPED = "skipped"
    """Nothing was done, by a policy; the note says by which."""
    FAILED = "failed"
    """The source could not be read; the note says why."""


UNFINISHED = (FiringState.WAITING, FiringState.FIRING, FiringState.RUNNING)
"""States of a firing that a later one overlaps."""


class CatchUp(StrEnum):
    """What becomes of firing times that passed while no control process ran."""

    SKIP = "skip"
    ONCE = "once"
    """The last of them fires, and stands for the others."""
    ALL = "all"


class Overlap(StrEnum):
    """What becomes of a firing whose predecessor's jobs have not ended."""

    SKIP = "skip"
    QUEUE = "queue"


class Reason(StrEnum):
    """Why an image is part of a firing."""

    NEW = "new"
    CHANGED = "changed"
    """Its bytes changed, as the object's ETag or the file's size and time tell."""
    RECIPE = "recipe"
    """The schedule asks for something else now, or the image's caption changed."""
    MODEL = "model"
    """What there is was made by another revision of the model."""


class Template(BaseModel):
    """What is made of each image: a spec less its image, `{name}` `{stem}` `{caption}` in prompts.

    `edits` are the edit prompts; without any, the image is only inverted. `fields` are the rest of
    the spec (`sampler`, `image`, `mask`, …).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    base: str = ""
    edits: tuple[str, ...] = ()
    fields: dict[str, Any] = {}
    model: Annotated[str, Field(min_length=1)]
    priority: int = 0

    def prompts(self) -> tuple[str, ...]:
        """Every text that may hold variables."""
        return (self.base, *self.edits)

    def recipe(self, base: str, edits: tuple[str, ...]) -> str:
        """The digest of what is asked for of an image, its prompts filled in."""
        return digest_of([base, list(edits), self.fields, self.model])


@dataclass(frozen=True)
class Schedule:
    """A schedule as its row says."""

    id: UUID
    name: str
    cron: str
    """Five fields, read in `timezone`."""
    timezone: str
    source: str
    """A folder that the control process sees, or `s3://bucket/prefix`."""
    template: Template
    reasons: frozenset[Reason]
    catch_up: CatchUp
    overlap: Overlap
    created_at: datetime
    paused_at: datetime | None
    next_at: datetime
    model_revision: str | None = None


@dataclass(frozen=True)
class Firing:
    """A firing as its row says."""

    id: UUID
    schedule_id: UUID
    due_at: datetime
    manual: bool
    """Asked for by `run-now`, not by the clock."""
    state: FiringState
    created_at: datetime
    finished_at: datetime | None
    attempts: int
    batch_id: UUID | None
    looked_at: int
    """Images."""
    submitted: int
    """Jobs that were made, or that were there and belong to it."""
    refused: int
    """Images that could not become jobs."""
    note: str | None


@dataclass(frozen=True)
class NewFiring:
    """A firing time that has come."""

    due_at: datetime
    skipped: str | None = None
    """Why nothing is to be done."""
    note: str | None = None


@dataclass(frozen=True)
class FiringClaim:
    """The right to work on a firing and to write its end, as long as `token` is the row's."""

    firing: Firing
    token: int


@dataclass(frozen=True)
class Item:
    """What a schedule remembers of an image."""

    item: str
    """SHA-256 of its address."""
    stamp: str
    recipe: str
    model_revision: str | None
