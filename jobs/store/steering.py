"""Stopping jobs and giving them a new life: some that are named, or all that a filter means.

What a filter means is changed in pieces, so that claims and heartbeats come in between, in the
order of ids: no job is met twice, however fast it fails again.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Select, select

from jobs.filters import JobFilter
from jobs.states import State, sources_of
from jobs.store.base import change, change_rows, chunks
from jobs.store.choosing import conditions
from jobs.store.inverting import forgive_inversions
from jobs.store.submitting import ENDED_BADLY, Submitting
from jobs.tables import jobs

STEER_CHUNK = 5_000

_NO_ID = UUID(int=0)
_LIVE: ColumnElement[bool] = jobs.c.state.in_(sources_of(State.CANCELLED))


def _lock(connection: Connection, rows: Select[UUID]) -> None:
    """Lock jobs before their inversions, as submissions do: else both would wait in a circle."""
    connection.execute(rows.with_for_update(key_share=True)).all()


class Steering(Submitting):
    """What people ask of jobs that are there already."""

    def retry(self, job_ids: Sequence[UUID]) -> int:
        """Give failed and cancelled jobs a new life; says how many."""
        return sum(self._retry(jobs.c.id.in_(chunk)) for chunk in chunks(job_ids))

    def _retry(self, which: ColumnElement[bool]) -> int:
        with self._engine.begin() as connection:
            _lock(connection, select(jobs.c.id).where(which, ENDED_BADLY).order_by(jobs.c.id))
            forgive_inversions(connection, which)
            return len(self._changed(connection, self._revive(which)))

    def retry_where(self, which: JobFilter) -> int:
        """Give all of these that failed or were cancelled a new life; says how many."""
        return self._in_pieces(which, ENDED_BADLY, self._revived())

    def cancel(self, job_ids: Sequence[UUID]) -> int:
        """Stop jobs that have not ended; says how many. Running ones stop at the next look."""
        return sum(
            self._change(change(jobs.c.id.in_(chunk), _LIVE, **self._cancelled()))
            for chunk in chunks(job_ids)
        )

    def cancel_where(self, which: JobFilter) -> int:
        """Stop all of these that have not ended; says how many."""
        return self._in_pieces(which, _LIVE, self._cancelled())

    def _cancelled(self) -> dict[str, Any]:
        return {"state": State.CANCELLED, "finished_at": self._clock(), "lease_until": None}

    def _in_pieces(
        self, which: JobFilter, leaving: ColumnElement[bool], values: dict[str, Any]
    ) -> int:
        done, after = 0, _NO_ID
        meant = select(jobs.c.id).where(*conditions(which), leaving).order_by(jobs.c.id)
        while True:
            piece = meant.where(jobs.c.id > after).limit(STEER_CHUNK)
            with self._engine.begin() as connection:
                _lock(connection, piece)
                forgive_inversions(connection, jobs.c.id.in_(piece))
                changed = self._changed(connection, change_rows(piece, **values))
            done += len(changed)
            if len(changed) < STEER_CHUNK:
                return done
            after = max(changed)
