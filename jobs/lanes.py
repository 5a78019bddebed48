"""Interactive and bulk: two lanes of messages for each model, told apart by a job's priority.

Somebody waits for an interactive job, so it has its own queue, its own takers in every worker, and
the device's next turn. Bulk jobs share what is left, most urgent first. Invariant: nothing of the
bulk lane is ever in front of an interactive job, in Redis or in a worker.
"""

from enum import StrEnum

INTERACTIVE_PRIORITY = 100
"""Jobs of this priority or more are interactive."""


class Lane(StrEnum):
    """Which of the two."""

    INTERACTIVE = "interactive"
    """Always announced at once."""
    BULK = "bulk"
    """Announced as workers take it, a bounded window at a time."""


def lane_of(priority: int) -> Lane:
    """The lane of a job of this priority."""
    return Lane.INTERACTIVE if priority >= INTERACTIVE_PRIORITY else Lane.BULK
