"""When a job that failed is tried again: one policy for each class of error.

| class | what it is | tries | waits before the next |
|---|---|---|---|
| permanent | the job's own fault: it would fail for ever | 1 | |
| transient | a service is away or refuses us: others come back | 8 | 2 s, doubled, up to 5 min |
| device | out of memory, a broken context | as set | 5 s, doubled, up to 2 min |
| fault | nobody foresaw it: ours, probably | as set | 2 s, doubled, up to 5 min |

"As set" is `EDICT_MAX_ATTEMPTS`. Eight tries are up to four minutes: a server that restarts costs
no job. Waits are spread (between half and all of the time), so that the jobs that one outage sent
away do not come back at the same moment.
"""

import random
from dataclasses import dataclass
from enum import StrEnum


class ErrorClass(StrEnum):
    """What kind of error it was; see the table above."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    DEVICE = "device"
    FAULT = "fault"


@dataclass(frozen=True)
class RetryPolicy:
    """How often, and how soon."""

    first_seconds: float
    limit_seconds: float
    attempts: int | None = None
    """None: as the store was told."""

    def delay(self, attempt: int) -> float:
        """Seconds from the end of this attempt (counted from 1) to the next."""
        # The exponent stays small: 2.0 ** 1024 is an error.
        doubled = self.first_seconds * 2.0 ** min(attempt - 1, 60)
        spread = random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
        return min(doubled, self.limit_seconds) * spread


POLICIES = {
    ErrorClass.TRANSIENT: RetryPolicy(first_seconds=2, limit_seconds=300, attempts=8),
    ErrorClass.DEVICE: RetryPolicy(first_seconds=5, limit_seconds=120),
    ErrorClass.FAULT: RetryPolicy(first_seconds=2, limit_seconds=300),
}
"""Permanent errors have none."""
