"""Quality gates: conditions of a batch, and which of its members' results fall short of them.

A result is judged in the transaction that writes it, after its row was changed. Whoever sets a gate
locks the rows of running and succeeded members in pieces: a job that ends meanwhile is either seen
there, or sees the new gate.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import Connection, Select, select, update

from jobs.errors import NotFound
from jobs.gates import is_flagged, parse_gate
from jobs.results import Result
from jobs.states import State
from jobs.store.base import StorePart, chunks
from jobs.tables import batch_jobs, batches, jobs

GATE_CHUNK = 2_000
_NO_ID = UUID(int=0)


class Gating(StorePart):
    """Setting gates, and judging by them."""

    def gate_of(self, batch_id: UUID) -> tuple[str, ...]:
        """The conditions of a batch's gate; none: nothing is flagged."""
        with self._reader.connect() as connection:
            gate = connection.scalar(select(batches.c.gate).where(batches.c.id == batch_id))
        return tuple(gate or ())

    def set_gate(self, batch_id: UUID, conditions: Sequence[str]) -> None:
        """Flag results that fall short of one of these conditions, those that are there included.

        Without conditions nothing is flagged any more.

        Raises:
            InvalidInput: one is no condition.
            NotFound: there is no such batch.
        """
        gate = [each.written for each in parse_gate(conditions)]
        statement = update(batches).where(batches.c.id == batch_id).values(gate=gate or None)
        with self._engine.begin() as connection:
            if not connection.execute(statement.returning(batches.c.id)).all():
                raise NotFound(f"there is no batch {batch_id}")
        after: UUID | None = _NO_ID
        while after is not None:
            after = self._judge_piece(batch_id, after)

    def _judge_piece(self, batch_id: UUID, after: UUID) -> UUID | None:
        """Judge the next members anew; returns where to go on, None at the end."""
        members = (
            select(batch_jobs.c.job_id)
            .where(batch_jobs.c.batch_id == batch_id, batch_jobs.c.job_id > after)
            .order_by(batch_jobs.c.job_id)
            .limit(GATE_CHUNK)
        )
        with self._engine.begin() as connection:
            piece = list(connection.scalars(members))
            self._judge(connection, piece, batch_id)
        return piece[-1] if len(piece) == GATE_CHUNK else None

    def flagged_among(self, batch_id: UUID, job_ids: Sequence[UUID]) -> frozenset[UUID]:
        """Those of these jobs that are flagged in the batch."""
        found: set[UUID] = set()
        with self._reader.connect() as connection:
            for chunk in chunks(job_ids):
                flagged = select(batch_jobs.c.job_id).where(
                    batch_jobs.c.batch_id == batch_id,
                    batch_jobs.c.job_id.in_(chunk),
                    batch_jobs.c.flagged,
                )
                found.update(connection.scalars(flagged))
        return frozenset(found)

    def _judge_new(
        self, connection: Connection, members: Select[tuple[UUID]], batch_id: UUID
    ) -> None:
        """Judge those that succeeded before they came into the batch, if it has a gate.

        Who submits holds the batch's row: nobody sets a gate meanwhile.
        """
        gated = select(batches.c.gate.is_not(None)).where(batches.c.id == batch_id)
        if connection.scalar(gated):
            self._judge(connection, list(connection.scalars(members)), batch_id)

    @staticmethod
    def _judge(connection: Connection, job_ids: Sequence[UUID], batch_id: UUID) -> None:
        """Say of these members of a batch whether they are flagged."""
        for chunk in chunks(sorted(job_ids)):
            done = (
                select(jobs.c.id, jobs.c.state, jobs.c.result)
                .where(jobs.c.id.in_(chunk), jobs.c.state.in_((State.RUNNING, State.SUCCEEDED)))
                .order_by(jobs.c.id)
                .with_for_update(key_share=True)
            )
            rows = connection.execute(done).all()
            # Read after the locks are there: whoever changes it later judges these again.
            gate = connection.scalar(select(batches.c.gate).where(batches.c.id == batch_id))
            flagged = [row.id for row in rows if row.state == State.SUCCEEDED and _falls(gate, row)]
            _flag(connection, batch_id, flagged, [row.id for row in rows])


def judge_end(connection: Connection, job_id: UUID, result: Result) -> None:
    """Flag a job that has just succeeded in the batches whose gates it falls short of."""
    gates = (
        select(batches.c.id, batches.c.gate)
        .join(batch_jobs, batch_jobs.c.batch_id == batches.c.id)
        .where(batch_jobs.c.job_id == job_id, batches.c.gate.is_not(None))
        .order_by(batches.c.id)
    )
    for batch_id, gate in connection.execute(gates).all():
        if is_flagged(parse_gate(gate), result):
            _flag(connection, batch_id, [job_id], [job_id])


def _flag(
    connection: Connection, batch_id: UUID, flagged: Sequence[UUID], among: Sequence[UUID]
) -> None:
    """Mark these members, and unmark all others of `among`."""
    rest = set(among) - set(flagged)
    for members, value in ((list(flagged), True), (sorted(rest), False)):
        if members:
            connection.execute(
                update(batch_jobs)
                .where(batch_jobs.c.batch_id == batch_id, batch_jobs.c.job_id.in_(members))
                .where(batch_jobs.c.flagged.is_not(value))
                .values(flagged=value)
            )


def _falls(gate: Sequence[str] | None, row: Any) -> bool:
    try:
        result = Result.model_validate(row.result)
    except ValidationError:
        return False  # written by another version: nothing is known of it
    return is_flagged(parse_gate(gate or ()), result)
