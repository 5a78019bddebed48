"""One computation for each inversion: a claim on its key, and jobs that wait for another's.

The row says who computes; the bucket says what there is. A claim lives as long as its holder's
heartbeats, so an inversion whose worker died is computed by another. Whoever finds a key claimed
parks its jobs: they go back untried and come due when the inversion is stored or given up, or at
the latest when the holder's lease would end.

Parking and storing both lock the inversion's row first and the jobs after it: no job is parked
for an inversion that was stored a moment before.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta

from sqlalchemy import ColumnElement, Connection, Update, and_, case, or_, select, tuple_, update

from jobs.records import Claim, InversionClaim, StoredInversion
from jobs.states import InversionState, State
from jobs.store.base import StorePart, change
from jobs.tables import inversions, jobs


class Inverting(StorePart):
    """Who computes which inversion."""

    def claim_inversion(
        self,
        key: str,
        digest: str,
        worker: str,
        *,
        lease: float,
        alone: bool,
        replacing: int | None = None,
    ) -> InversionClaim | None:
        """Take the inversion of this object key for `lease` seconds; None while it is not free.

        `digest` is its jobs' `inversion_digest`; `alone` says that `worker` runs nothing else.
        With `replacing`, the token of a stored one, that one is computed again: its object is
        gone or damaged.
        """
        now = self._clock()
        claimed = {
            "key": key,
            "digest": digest,
            "state": InversionState.COMPUTING,
            "holder": worker,
            "alone": alone,
            "token": 1,
            "claimed_at": now,
            "lease_until": now + timedelta(seconds=lease),
        }
        entry = self._insert(inversions).values(claimed)
        lost = and_(inversions.c.state == InversionState.COMPUTING, inversions.c.lease_until < now)
        again = and_(inversions.c.state == InversionState.STORED, inversions.c.token == replacing)
        taken = claimed | {
            "token": inversions.c.token + 1,
            "losses": inversions.c.losses + case((and_(lost, inversions.c.alone), 1), else_=0),
        }
        entry = entry.on_conflict_do_update(
            index_elements=["key"],
            set_=taken,
            where=or_(inversions.c.state == InversionState.ABANDONED, lost, again),
        )
        with self._engine.begin() as connection:
            row = connection.execute(
                entry.returning(inversions.c.token, inversions.c.losses)
            ).one_or_none()
        if row is None:
            return None
        # Before it was computed alone, it cost a worker that ran other things as well.
        guilty = row.losses + 1 >= self._max_losses
        return InversionClaim(key, digest, row.token, guilty)

    def stored_token(self, key: str) -> int | None:
        """The token of an inversion that the row calls stored; None where it does not."""
        statement = select(inversions.c.token).where(
            inversions.c.key == key, inversions.c.state == InversionState.STORED
        )
        with self._reader.connect() as connection:
            return connection.scalar(statement)

    def renew_inversions(self, claims: Iterable[InversionClaim], *, lease: float) -> None:
        """Prolong the claims of a worker that is alive; those that were lost stay lost."""
        held = [(claim.key, claim.token) for claim in claims]
        until = self._clock() + timedelta(seconds=lease)
        renewed = update(inversions).where(
            tuple_(inversions.c.key, inversions.c.token).in_(held),
            inversions.c.state == InversionState.COMPUTING,
        )
        with self._engine.begin() as connection:
            connection.execute(renewed.values(lease_until=until))

    def inversion_stored(self, claim: InversionClaim, stored: StoredInversion) -> bool:
        """Note that the object is in the bucket, and let its jobs come due.

        False: the claim is not the row's any more. The object is what it is: keys follow from
        content, and the first that was written stays.
        """
        return self._end_inversion(
            claim, state=InversionState.STORED, stored_at=self._clock(), **vars(stored)
        )

    def abandon_inversion(self, claim: InversionClaim) -> bool:
        """Give the claim back, so that those who wait try for themselves; False: it was lost."""
        return self._end_inversion(claim, state=InversionState.ABANDONED)

    def _end_inversion(self, claim: InversionClaim, **values: object) -> bool:
        ended = (
            update(inversions)
            .where(
                inversions.c.key == claim.key,
                inversions.c.token == claim.token,
                inversions.c.state == InversionState.COMPUTING,
            )
            .values(lease_until=None, **values)
            .returning(inversions.c.key)
        )
        with self._engine.begin() as connection:
            if connection.execute(ended).one_or_none() is None:
                return False
            connection.execute(self._wake(claim.digest))
            return True

    def _wake(self, digest: str) -> Update:
        now = self._clock()
        return change(
            jobs.c.inversion_digest == digest,
            jobs.c.state == State.PENDING,
            jobs.c.due_at > now,
            # Not those that are to begin later, nor those that wait after an error of their own.
            jobs.c.started_at.is_not(None),
            jobs.c.error_code.is_(None),
            due_at=now,
        )

    def park(self, claims: Sequence[Claim], key: str) -> bool:
        """Give jobs back untried until somebody else's inversion is there.

        False: nobody computes it any more, and nothing was changed. Claims that were lost are
        passed over.
        """
        now = self._clock()
        computing = select(inversions.c.lease_until).where(
            inversions.c.key == key,
            inversions.c.state == InversionState.COMPUTING,
            inversions.c.lease_until >= now,
        )
        held = tuple_(jobs.c.id, jobs.c.token).in_([(each.job_id, each.token) for each in claims])
        with self._engine.begin() as connection:
            until = connection.scalar(computing.with_for_update(read=True))
            if until is None:
                return False
            connection.execute(
                change(
                    held,
                    jobs.c.state == State.RUNNING,
                    state=State.PENDING,
                    due_at=until,
                    lease_until=None,
                    progress=None,
                    attempts=jobs.c.attempts - 1,
                )
            )
            return True


def forgive_inversions(connection: Connection, which: ColumnElement[bool]) -> None:
    """Let the inversions of these jobs, which ended badly, be tried again: somebody asks for it.

    Those that are locked are passed over: they are in somebody's hands, and who holds one may wait
    for the jobs that our transaction has locked already.
    """
    ended = jobs.c.state.in_((State.FAILED, State.CANCELLED))
    digests = select(jobs.c.inversion_digest).where(which, ended)
    blamed = (
        select(inversions.c.key)
        .where(inversions.c.digest.in_(digests), inversions.c.losses > 0)
        .with_for_update(skip_locked=True, of=inversions)
        .cte("blamed")
    )
    connection.execute(
        update(inversions).where(inversions.c.key.in_(select(blamed.c.key))).values(losses=0)
    )
