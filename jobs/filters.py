"""Which jobs are meant: the same words for looking, cancelling and retrying, here and in SQL."""

from dataclasses import dataclass, fields
from uuid import UUID

from jobs.marks import Verdict
from jobs.states import State


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
    tenant: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether every job is meant."""
        return not any(getattr(self, field.name) for field in fields(self))
