"""Schedules: made, changed, and their firing times turned into rows, each exactly once."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, delete, insert, select, update

from jobs.errors import InvalidInput, NotFound
from jobs.ids import new_id
from jobs.schedules import (
    CatchUp,
    Firing,
    FiringState,
    NewFiring,
    Overlap,
    Reason,
    Schedule,
    Template,
)
from jobs.store.base import StorePart
from jobs.tables import firings, schedules, turns


class Scheduling(StorePart):
    """What people ask of schedules, and what the clock does to them."""

    def create_schedule(self, schedule: Schedule) -> None:
        """Enter a schedule.

        Raises:
            InvalidInput: there is one of that name.
        """
        values = vars(schedule) | {
            "template": schedule.template.model_dump(mode="json"),
            "reasons": sorted(schedule.reasons),
        }
        entry = self._insert(schedules).values(values).on_conflict_do_nothing()
        with self._engine.begin() as connection:
            if not connection.execute(entry.returning(schedules.c.id)).all():
                raise InvalidInput(
                    "name",
                    f"there is a schedule {schedule.name!r} already; delete it first, or choose "
                    "another name",
                )

    def schedule(self, name_or_id: str | UUID) -> Schedule:
        """Find a schedule.

        Raises:
            NotFound: there is none.
        """
        by_id = isinstance(name_or_id, UUID)
        which = (schedules.c.id if by_id else schedules.c.name) == name_or_id
        found = self._schedules(which)
        if not found:
            raise NotFound(
                f"there is no schedule {str(name_or_id)!r}; `edict schedule list` shows them"
            )
        return found[0]

    def schedules(self) -> list[Schedule]:
        """All of them, by name."""
        return self._schedules()

    def due_schedules(self) -> list[Schedule]:
        """Those that have a firing time without a row."""
        due = schedules.c.next_at <= self._clock()
        return self._schedules(due, schedules.c.paused_at.is_(None))

    def _schedules(self, *which: ColumnElement[bool]) -> list[Schedule]:
        statement = select(schedules).where(*which).order_by(schedules.c.name)
        with self._reader.connect() as connection:
            return [_schedule(row) for row in connection.execute(statement)]

    def delete_schedule(self, schedule: Schedule) -> None:
        """Remove a schedule, its history and its memory. What it submitted stays."""
        with self._engine.begin() as connection:
            connection.execute(delete(schedules).where(schedules.c.id == schedule.id))

    def pause_schedule(self, schedule: Schedule) -> None:
        """Let no firing time come until `resume_schedule`. What has begun goes on."""
        not_paused = schedules.c.paused_at.is_(None)
        self._change_schedule(schedule, not_paused, paused_at=self._clock())

    def resume_schedule(self, schedule: Schedule, next_at: datetime) -> None:
        """Let the clock run again: the times that passed in the pause are not made up for."""
        paused = schedules.c.paused_at.is_not(None)
        self._change_schedule(schedule, paused, paused_at=None, next_at=next_at)

    def note_revision(self, schedule: Schedule, revision: str) -> None:
        """Remember which revision of the model its workers last served."""
        self._change_schedule(schedule, model_revision=revision)

    def _change_schedule(
        self, schedule: Schedule, *which: ColumnElement[bool], **values: Any
    ) -> None:
        statement = update(schedules).where(schedules.c.id == schedule.id, *which).values(values)
        with self._engine.begin() as connection:
            connection.execute(statement)

    def advance_schedule(
        self, schedule: Schedule, come: Sequence[NewFiring], next_at: datetime
    ) -> bool:
        """Make rows of the firing times that came, and move on to `next_at`, in one transaction.

        False: another process did it, or the schedule was paused or deleted; nothing was written.
        """
        moved = (
            update(schedules)
            .where(
                schedules.c.id == schedule.id,
                schedules.c.next_at == schedule.next_at,
                schedules.c.paused_at.is_(None),
            )
            .values(next_at=next_at)
            .returning(schedules.c.id)
        )
        rows = [self._firing_row(schedule, each) for each in come]
        with self._engine.begin() as connection:
            # The row's lock is held to the end: who comes second finds another `next_at`.
            if not connection.execute(moved).all():
                return False
            if rows:
                connection.execute(self._insert(firings).on_conflict_do_nothing(), rows)
        return True

    def fire_now(self, schedule: Schedule) -> Firing:
        """Make a firing that nobody has to wait for."""
        row = self._firing_row(schedule, NewFiring(self._clock())) | {"manual": True}
        with self._engine.begin() as connection:
            made = connection.execute(insert(firings).values(row).returning(*FIRING)).one()
        return firing_of(made)

    def _firing_row(self, schedule: Schedule, new: NewFiring) -> dict[str, Any]:
        now = self._clock()
        return {
            "id": new_id(),
            "schedule_id": schedule.id,
            "due_at": new.due_at,
            "manual": False,
            "state": FiringState.SKIPPED if new.skipped else FiringState.WAITING,
            "created_at": now,
            "finished_at": now if new.skipped else None,
            "note": new.skipped or new.note,
        }

    def firings(self, schedule: Schedule, *, limit: int = 20) -> list[Firing]:
        """The last firings of a schedule, newest first."""
        statement = (
            select(*FIRING)
            .where(firings.c.schedule_id == schedule.id)
            .order_by(firings.c.due_at.desc())
            .limit(limit)
        )
        with self._reader.connect() as connection:
            return [firing_of(row) for row in connection.execute(statement)]

    def take_turn(self, name: str, *, every: float) -> bool:
        """Whether it is our turn to do what one process does every `every` seconds.

        The times are in SQL: many processes take one turn, and a restart takes none before its
        time.
        """
        now = self._clock()
        after = now + timedelta(seconds=every)
        taken = (
            self._insert(turns)
            .values(name=name, next_at=after)
            .on_conflict_do_update(
                index_elements=["name"], set_={"next_at": after}, where=turns.c.next_at <= now
            )
            .returning(turns.c.name)
        )
        with self._engine.begin() as connection:
            return bool(connection.execute(taken).all())


FIRING = [firings.c[name] for name in Firing.__dataclass_fields__]


def firing_of(row: Row[Any]) -> Firing:
    """A firing, from a row of the columns `FIRING` (and perhaps more)."""
    values = {name: row._mapping[name] for name in Firing.__dataclass_fields__}
    return Firing(**values | {"state": FiringState(values["state"])})


def _schedule(row: Row[Any]) -> Schedule:
    values = row._asdict()
    return Schedule(
        **values
        | {
            "template": Template.model_validate(values["template"]),
            "reasons": frozenset(map(Reason, values["reasons"])),
            "catch_up": CatchUp(values["catch_up"]),
            "overlap": Overlap(values["overlap"]),
        }
    )
