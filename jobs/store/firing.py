"""Working on a firing: a lease and a fencing token, as for jobs; one holder submits at a time."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, exists, or_, select, update

from jobs.errors import LeaseLost
from jobs.schedules import UNFINISHED, FiringClaim, FiringState, Item, Overlap
from jobs.states import LIVE
from jobs.store.base import StorePart, chunks
from jobs.store.scheduling import FIRING, firing_of
from jobs.tables import batch_jobs, firings, jobs, schedule_items, schedules

_NOTE_CHARACTERS = 1_000

_earlier = firings.alias("earlier")
_OVERLAPS = exists().where(
    _earlier.c.schedule_id == firings.c.schedule_id,
    _earlier.c.due_at < firings.c.due_at,
    _earlier.c.state.in_(UNFINISHED),
)


class FiringWork(StorePart):
    """What a control process does with firings whose time has come."""

    def skip_overlapping(self) -> int:
        """Skip firings whose predecessor has not ended, where that is the policy; says how many.

        What `run-now` asked for waits instead: somebody wants it.
        """
        skipping = exists().where(
            schedules.c.id == firings.c.schedule_id, schedules.c.overlap == Overlap.SKIP
        )
        statement = (
            update(firings)
            .where(
                firings.c.state == FiringState.WAITING,
                firings.c.manual.is_(False),
                skipping,
                _OVERLAPS,
            )
            .values(
                state=FiringState.SKIPPED,
                finished_at=self._clock(),
                note="the firing before it had not ended",
            )
        )
        return self._change_firings(statement)

    def settle_firings(self) -> int:
        """End the firings whose batch has no live job any more; says how many."""
        live = exists().where(
            batch_jobs.c.batch_id == firings.c.batch_id,
            jobs.c.id == batch_jobs.c.job_id,
            jobs.c.state.in_(LIVE),
        )
        statement = (
            update(firings)
            .where(firings.c.state == FiringState.RUNNING, ~live)
            .values(state=FiringState.DONE, finished_at=self._clock())
        )
        return self._change_firings(statement)

    def _change_firings(self, statement: Any) -> int:
        with self._engine.begin() as connection:
            return len(connection.execute(statement.returning(firings.c.id)).all())

    def take_firing(self, holder: str, *, lease: float) -> FiringClaim | None:
        """Take the oldest firing that may begin, or whose holder fell silent, for `lease` seconds.

        A firing waits for those before it, and, unless `run-now` made it, for its schedule's pause.
        """
        now = self._clock()
        unpaused = exists().where(
            schedules.c.id == firings.c.schedule_id, schedules.c.paused_at.is_(None)
        )
        may_begin = and_(
            firings.c.state == FiringState.WAITING,
            or_(firings.c.manual.is_(True), unpaused),
            ~_OVERLAPS,
        )
        abandoned = and_(firings.c.state == FiringState.FIRING, firings.c.lease_until < now)
        free = (
            select(firings.c.id)
            .where(or_(may_begin, abandoned))
            .order_by(firings.c.due_at)
            .limit(1)
            .with_for_update(skip_locked=True, of=firings)
            .cte("free")
        )
        taken = (
            update(firings)
            .where(firings.c.id.in_(select(free.c.id)))
            .values(
                state=FiringState.FIRING,
                holder=holder,
                token=firings.c.token + 1,
                attempts=firings.c.attempts + 1,
                lease_until=now + timedelta(seconds=lease),
            )
            .returning(*FIRING, firings.c.token)
        )
        with self._engine.begin() as connection:
            row = connection.execute(taken).one_or_none()
        return None if row is None else FiringClaim(firing_of(row), row.token)

    def renew_firing(self, claim: FiringClaim, *, lease: float) -> None:
        """Keep a firing for `lease` seconds more.

        Raises:
            LeaseLost: somebody else has it, or its schedule was deleted; nothing was written.
        """
        self._keep_lease(claim, lease_until=self._clock() + timedelta(seconds=lease))

    def remember(
        self,
        claim: FiringClaim,
        items: Sequence[Item],
        *,
        batch_id: UUID | None = None,
        submitted: int = 0,
    ) -> None:
        """Enter images that were looked at, and count their jobs, in one transaction.

        `batch_id` is the batch of what was submitted of them.

        Raises:
            LeaseLost: see `renew_firing`.
        """
        seen = self._insert(schedule_items)
        columns = ("stamp", "recipe", "model_revision")
        seen = seen.on_conflict_do_update(
            index_elements=["schedule_id", "item"],
            set_={name: seen.excluded[name] for name in columns},
        )
        schedule_id = claim.firing.schedule_id
        rows = [{"schedule_id": schedule_id, **vars(item)} for item in items]
        counted: dict[str, Any] = {"submitted": firings.c.submitted + submitted}
        if batch_id is not None:
            counted["batch_id"] = batch_id
        with self._engine.begin() as connection:
            self._held(connection, claim, counted)
            if rows:
                connection.execute(seen, rows)

    def end_firing(
        self, claim: FiringClaim, *, looked_at: int, refused: int, note: str | None
    ) -> None:
        """All is submitted: the firing runs as long as its batch does.

        `looked_at` and `refused` are the source's images, and those that could not become jobs.

        Raises:
            LeaseLost: see `renew_firing`.
        """
        counts: dict[str, Any] = {"looked_at": looked_at, "refused": refused}
        if note:
            counts["note"] = note[:_NOTE_CHARACTERS]
        self._keep_lease(claim, state=FiringState.RUNNING, lease_until=None, **counts)

    def fail_firing(self, claim: FiringClaim, reason: str) -> None:
        """Write a firing's failure, for good.

        Raises:
            LeaseLost: see `renew_firing`.
        """
        self._keep_lease(
            claim,
            state=FiringState.FAILED,
            lease_until=None,
            finished_at=self._clock(),
            note=reason[:_NOTE_CHARACTERS],
        )

    def release_firing(self, claim: FiringClaim) -> None:
        """Leave a firing to whoever comes next; this attempt does not count.

        Raises:
            LeaseLost: see `renew_firing`.
        """
        untried = firings.c.attempts - 1
        self._keep_lease(claim, lease_until=self._clock(), attempts=untried)

    def postpone_firing(self, claim: FiringClaim, *, delay: float) -> None:
        """Leave a firing to whoever comes in `delay` seconds. It goes on where it was.

        Raises:
            LeaseLost: see `renew_firing`.
        """
        self._keep_lease(claim, lease_until=self._clock() + timedelta(seconds=delay))

    def _keep_lease(self, claim: FiringClaim, **values: Any) -> None:
        with self._engine.begin() as connection:
            self._held(connection, claim, values)

    def _held(self, connection: Any, claim: FiringClaim, values: dict[str, Any]) -> None:
        ours: list[ColumnElement[bool]] = [
            firings.c.id == claim.firing.id,
            firings.c.token == claim.token,
            firings.c.state == FiringState.FIRING,
        ]
        changed = update(firings).where(*ours).values(values).returning(firings.c.id)
        if not connection.execute(changed).all():
            raise LeaseLost(
                f"firing {claim.firing.id}: the claim with token {claim.token} is no longer "
                "valid; the schedule was deleted, or another control process took over"
            )

    def items(self, schedule_id: UUID, wanted: Sequence[str]) -> dict[str, Item]:
        """What a schedule remembers of these images."""
        table = schedule_items
        statement = select(table.c.item, table.c.stamp, table.c.recipe, table.c.model_revision)
        statement = statement.where(table.c.schedule_id == schedule_id, table.c.item.in_(wanted))
        with self._reader.connect() as connection:
            return {row.item: Item(*row) for row in connection.execute(statement)}

    def revisions_of(self, job_ids: Sequence[UUID]) -> dict[UUID, str]:
        """Which revision of their model made the results of these jobs, where they have one."""
        revision = jobs.c.result["model_revision"].as_string()
        found: dict[UUID, str] = {}
        with self._reader.connect() as connection:
            for chunk in chunks(job_ids):
                statement = select(jobs.c.id, revision).where(
                    jobs.c.id.in_(chunk), revision.is_not(None)
                )
                found.update({row[0]: row[1] for row in connection.execute(statement)})
        return found
