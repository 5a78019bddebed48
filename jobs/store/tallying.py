"""Counts of batches: read from tallies, never by counting jobs.

The database's triggers keep the tallies (see the migration that made them), so that whoever changes
a job changes its counts in the same transaction. On PostgreSQL every statement leaves rows of
changes behind; a count is their sum, whether they were folded into one row yet or not.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Select, delete, func, select

from jobs.states import State
from jobs.store.base import StorePart
from jobs.tables import batch_tallies

FLAGGED = "flagged"
"""The detail of members that succeeded below their batch's gate."""
FOLD_ROWS = 100_000
"""Rows of changes in one transaction."""

_SUM = func.sum(batch_tallies.c.number)


class Tallying(StorePart):
    """How many, without looking at any job."""

    def failures_of(self, batch_id: UUID) -> dict[str, int]:
        """How many jobs of a batch failed, by the code of the error, most often first."""
        statement = (
            select(batch_tallies.c.detail, _SUM)
            .where(batch_tallies.c.batch_id == batch_id, batch_tallies.c.state == State.FAILED)
            .group_by(batch_tallies.c.detail)
            .having(_SUM > 0)
            .order_by(_SUM.desc(), batch_tallies.c.detail)
        )
        with self._reader.connect() as connection:
            return {code: int(count) for code, count in connection.execute(statement)}

    def flagged_of(self, batch_id: UUID) -> int:
        """How many jobs of a batch succeeded below its gate."""
        return self._flagged([batch_id])[batch_id]

    def _flagged(self, batch_ids: Sequence[UUID]) -> dict[UUID, int]:
        statement = (
            select(batch_tallies.c.batch_id, _SUM)
            .where(batch_tallies.c.batch_id.in_(batch_ids), batch_tallies.c.detail == FLAGGED)
            .where(batch_tallies.c.state == State.SUCCEEDED)
            .group_by(batch_tallies.c.batch_id)
        )
        counts = dict.fromkeys(batch_ids, 0)
        with self._reader.connect() as connection:
            counts.update({row[0]: int(row[1]) for row in connection.execute(statement)})
        return counts

    def _counts_of(self, batch_ids: Sequence[UUID]) -> dict[UUID, dict[State, int]]:
        counts = {batch_id: dict.fromkeys(State, 0) for batch_id in batch_ids}
        with self._reader.connect() as connection:
            for batch_id, state, count in connection.execute(tallies(batch_ids)):
                counts[batch_id][State(state)] = int(count)
        return counts

    def fold_tallies(self) -> int:
        """Fold rows of changes into the sums; says how many. Any process may, at any time."""
        folded = 0
        while changed := self._fold():
            folded += changed
            if changed < FOLD_ROWS:
                break
        return folded

    def _fold(self) -> int:
        table = batch_tallies.c
        key = [table[name] for name in _KEY]
        some = select(table.shard).where(table.shard > 0).limit(FOLD_ROWS)
        with self._engine.begin() as connection:
            # Whoever else folds meanwhile has taken these rows: leave them to it.
            taken = some.with_for_update(skip_locked=True).cte("taken")
            gone = (
                delete(batch_tallies)
                # A row of changes is the only one of its shard.
                .where(table.shard.in_(select(taken.c.shard)))
                .returning(*key, table.number)
            )
            rows = connection.execute(gone).all()
            entry = self._insert(batch_tallies)
            entry = entry.on_conflict_do_update(
                index_elements=[*_KEY, "shard"],
                set_={"number": table.number + entry.excluded.number},
            )
            if rows:
                connection.execute(entry, _sums([tuple(row) for row in rows]))
        return len(rows)


_KEY = ("batch_id", "state", "detail")


def tallies(batch_ids: Sequence[UUID]) -> Select[UUID, str, int]:
    """Batch, state and number of jobs."""
    key = (batch_tallies.c.batch_id, batch_tallies.c.state)
    return select(*key, _SUM).where(batch_tallies.c.batch_id.in_(batch_ids)).group_by(*key)


def _sums(changes: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
    """One entry for each key, in one order for all: two that fold never wait in a circle."""
    sums: Counter[tuple[UUID, str, str]] = Counter()
    for batch_id, state, detail, number in changes:
        sums[batch_id, state, detail] += number
    return [
        {**dict(zip(_KEY, key, strict=True)), "shard": 0, "number": sums[key]}
        for key in sorted(sums)
    ]
