"""The job store: every change of a job's state is a method here, and one statement in SQL.

The invariant to keep: each statement names the state (and, for a claim's holder, the fencing
token) that it leaves. Two processes that race for one change then cannot both win it, on any
database, whatever the order of their messages. A crash between two statements leaves a state that
the reconciler knows (see `jobs.dispatch`).

Times come from the caller's clock. A clock that is wrong by seconds delays a take-over or makes it
early; it cannot make two workers end one job, because the token decides that.
"""

from jobs.store.admitting import Admitting
from jobs.store.auditing import Auditing
from jobs.store.bulk import Bulk
from jobs.store.firing import FiringWork
from jobs.store.foreseeing import Foreseeing
from jobs.store.inverting import Inverting
from jobs.store.leasing import WORKER_LOST
from jobs.store.listing import Listing
from jobs.store.losing import Losing
from jobs.store.marking import Marking
from jobs.store.measuring import Measuring
from jobs.store.queueing import Queueing
from jobs.store.registering import Registering
from jobs.store.scheduling import Scheduling
from jobs.store.sourcing import Sourcing
from jobs.store.submitting import SUBMIT_CHUNK
from jobs.store.telling import Telling

__all__ = ["SUBMIT_CHUNK", "WORKER_LOST", "JobStore"]


class JobStore(
    Bulk,
    Sourcing,
    Queueing,
    Losing,
    Inverting,
    Listing,
    Registering,
    Telling,
    Scheduling,
    FiringWork,
    Foreseeing,
    Measuring,
    Admitting,
    Marking,
    Auditing,
):
    """All that is written to and read from the tables. Safe to share between threads."""
