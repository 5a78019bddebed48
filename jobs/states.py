"""The life of a job, as data.

            dispatch            claim                 finish
 pending ─────────────► queued ─────────► running ───────────────► succeeded
    ▲  ▲                   │                 │ │ │
    │  └── lease expired / retry later ──────┘ │ └── permanent or attempts used up ─► failed
    │                      └──── cancel ───────┴──────────────────────────────────► cancelled
    └───────────────── user retries a failed or cancelled job

Every change goes through `jobs.store.JobStore`, whose statements name the state that they leave,
so that two processes that race for one change cannot both win it.
"""

from enum import StrEnum


class State(StrEnum):
    """Where a job stands."""

    PENDING = "pending"
    """The row is committed; no message speaks of it (yet, or any more)."""
    QUEUED = "queued"
    """A message that names it was sent; whether it still exists is the broker's secret."""
    RUNNING = "running"
    """A worker holds the lease, and its fencing token is on the row."""
    SUCCEEDED = "succeeded"
    """Done: the row names the outputs, and they are in the bucket."""
    FAILED = "failed"
    """Ended by a permanent error or after its last attempt: the dead-letter list."""
    CANCELLED = "cancelled"
    """Stopped at somebody's wish."""


TRANSITIONS: dict[State, frozenset[State]] = {
    State.PENDING: frozenset({State.QUEUED, State.CANCELLED}),
    State.QUEUED: frozenset({State.RUNNING, State.PENDING, State.CANCELLED}),
    State.RUNNING: frozenset({State.SUCCEEDED, State.FAILED, State.PENDING, State.CANCELLED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset({State.PENDING}),
    State.CANCELLED: frozenset({State.PENDING}),
}


class InversionState(StrEnum):
    """Where the noise of an image stands; see `jobs.store.inverting`."""

    COMPUTING = "computing"
    """A worker has claimed it, until its lease ends."""
    STORED = "stored"
    """Its object is in the bucket."""
    ABANDONED = "abandoned"
    """Its worker gave it up; whoever needs it may claim it."""


LIVE = (State.PENDING, State.QUEUED, State.RUNNING)
"""States in which something may still happen."""

ENDED = (State.SUCCEEDED, State.FAILED, State.CANCELLED)
"""States in which nothing happens unless somebody asks."""


def sources_of(target: State) -> tuple[State, ...]:
    """The states from which `target` may be entered, in the order of their declaration."""
    return tuple(state for state in State if target in TRANSITIONS[state])
