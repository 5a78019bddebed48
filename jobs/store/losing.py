"""Jobs whose workers were lost with them, and how the one that is to blame is found.

When a worker dies or falls silent, any of the jobs that it had in hand may be why. All of them
become suspects: none has spent an attempt, and each runs alone in its process from then on. A
suspect that is lost again is to blame itself, and fails as `worker_lost` after as many losses as a
job has attempts (two at least). What was merely beside it ends well at its next run.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select, tuple_

from jobs.records import Claim
from jobs.states import State
from jobs.store.leasing import Held, Leasing, storable_error
from jobs.tables import jobs


class Losing(Leasing):
    """Suspects: who they are, and what becomes of them."""

    def suspects(self, job_ids: Sequence[UUID]) -> list[UUID]:
        """Those of these queued jobs that must run alone."""
        statement = (
            select(jobs.c.id)
            .where(jobs.c.id.in_(job_ids), jobs.c.state == State.QUEUED, jobs.c.losses > 0)
            .order_by(jobs.c.id)
        )
        with self._reader.connect() as connection:
            return list(connection.scalars(statement))

    def held(self, claims: Sequence[Held]) -> frozenset[Held]:
        """Those of these claims that are still good; nothing is renewed."""
        statement = select(jobs.c.id, jobs.c.token).where(
            tuple_(jobs.c.id, jobs.c.token).in_(claims), jobs.c.state == State.RUNNING
        )
        with self._reader.connect() as connection:
            return frozenset((row.id, row.token) for row in connection.execute(statement))

    def lose(self, claim: Claim, code: str, message: str) -> State:
        """Give a job back because the device under it broke; returns what it came to.

        Raises:
            LeaseLost: the claim is not the row's any more; nothing was written.
        """
        now = self._clock()
        error = storable_error(code, message)
        if claim.losses + 1 >= self._max_losses:
            self._end(
                claim.job_id,
                claim.token,
                state=State.FAILED,
                losses=claim.losses + 1,
                finished_at=now,
                **error,
            )
            return State.FAILED
        self._end(
            claim.job_id,
            claim.token,
            state=State.PENDING,
            losses=claim.losses + 1,
            due_at=now,
            progress=None,
            **error,
        )
        return State.PENDING
