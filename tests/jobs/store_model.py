"""What the store holds, as a model has it that is simple enough to be right at sight."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from jobs.records import Claim
from jobs.states import State


@dataclass
class Pause:
    """A batch as the model has it."""

    id: UUID
    wished: bool = False
    settled: bool = True
    members: set[UUID] = field(default_factory=set)


@dataclass
class Expected:
    """A row as the model has it."""

    id: UUID
    priority: int
    due_at: datetime
    state: State = State.PENDING
    attempts: int = 0
    losses: int = 0
    token: int = 0
    worker: str | None = None
    lease_until: datetime | None = None
    queued_at: datetime | None = None
    paused: bool = False
    successes: int = 0

    def hold(self) -> None:
        self.paused = True
        if self.state is State.QUEUED:
            self.state = State.PENDING

    def urge(self, priority: int) -> None:
        if self.state in (State.PENDING, State.QUEUED) and self.priority < priority:
            self.state, self.priority = State.PENDING, priority

    def end(self, state: State) -> None:
        self.state, self.lease_until = state, None

    def revive(self, now: datetime) -> None:
        self.state, self.due_at, self.attempts, self.losses = State.PENDING, now, 0, 0


@dataclass
class Crew:
    """What each worker process believes to hold. A crash forgets; a zombie remembers."""

    renewed: dict[str, set[tuple[UUID, int]]] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
