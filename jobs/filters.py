"""Which jobs are meant: the same words for looking, cancelling and retrying, here and in SQL."""

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID

from jobs.marks import Verdict
from jobs.states import State

if TYPE_CHECKING:
    # It brings pydantic, which the command line does without until it must.
    from jobs.gates import Condition


@dataclass(frozen=True)
class JobFilter:
    """All jobs that agree with every field that is given; without any, all jobs."""

    batch: UUID | None = None
    states: tuple[State, ...] = ()
    """Empty: any."""
    kind: str | None = None
    code: str | None = None
    """The error code that they failed with, or met last."""
    model: str | None = None
    """Its name; jobs pinned to a revision of it are meant too, unless the revision is given."""
    prompt: str | None = None
    """Found in the base or the edit prompt, in small letters or capitals."""
    mark: Verdict | None = None
    flagged: bool | None = None
    """Whether it fell short of the gate of `batch` (of any of its batches, without one)."""
    figures: "tuple[Condition, ...]" = ()
    """What must be true of its result."""
    tenant: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether every job is meant."""
        given = (getattr(self, field.name) for field in fields(self))
        return all(value is None or value in ((), "") for value in given)


class Order(StrEnum):
    """What comes first in a list; figures from small to large, and with a minus the other way."""

    NEWEST = "newest"
    OLDEST = "oldest"
    PSNR = "psnr"
    PSNR_DOWN = "-psnr"
    SIMILARITY = "similarity"
    SIMILARITY_DOWN = "-similarity"
    MASK_AREA = "mask_area"
    MASK_AREA_DOWN = "-mask_area"

    @property
    def figure(self) -> str | None:
        """The figure that decides; None: only the time does."""
        return None if self in (Order.NEWEST, Order.OLDEST) else self.value.removeprefix("-")

    @property
    def descends(self) -> bool:
        """Whether the largest, or latest, is the first."""
        return self is Order.NEWEST or self.value.startswith("-")
