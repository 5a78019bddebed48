"""What pruning would find, for its dry run: nothing here changes a row or takes a lock."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import case, false, or_, select, true

from jobs.errors import InvalidInput
from jobs.retention import What
from jobs.states import LIVE
from jobs.store.retaining import LATENTS, LATENTS_KEY, Retaining, inversion_digests
from jobs.tables import jobs


@dataclass(frozen=True)
class DueJob:
    """A job that is due to lose something."""

    id: UUID
    dues: frozenset[What]
    outputs: dict[str, tuple[str, int]]
    """Key and bytes, by role."""
    digests: tuple[str, ...]
    """Of jobs that may share its inversion."""

    def due(self, what: What) -> bool:
        """Whether its time is up for this."""
        return what in self.dues


class Foreseeing(Retaining):
    """Looks at all jobs as the policies see them."""

    def due_jobs(self, *, chunk: int) -> Iterator[list[DueJob]]:
        """Every job that is due to lose something, in order of their ids."""
        flags = {what: case((self.due_for(what), true()), else_=false()) for what in What}
        columns: list[Any] = [jobs.c.id, jobs.c.spec, jobs.c.result]
        columns += [flag.label(f"due_{what}") for what, flag in flags.items()]
        statement = select(*columns).where(or_(*map(self.due_for, What))).order_by(jobs.c.id)
        last: UUID | None = None
        while True:
            page = statement if last is None else statement.where(jobs.c.id > last)
            with self._reader.connect() as connection:
                rows = connection.execute(page.limit(chunk)).all()
            if not rows:
                return
            yield [_due_job(row) for row in rows]
            last = rows[-1].id

    def kept_inversions(self, due: Sequence[DueJob]) -> set[str]:
        """Keys of inversions of these jobs that others hold: live ones, or such as are not due."""
        digests = {digest for job in due for digest in job.digests}
        keys = {job.outputs[LATENTS][0]: job.digests for job in due if LATENTS in job.outputs}
        losing = or_(self.due_for(What.LATENTS), self.due_for(What.ROWS))
        statement = select(jobs.c.inversion_digest, jobs.c.state, LATENTS_KEY).where(
            jobs.c.inversion_digest.in_(digests),
            or_(jobs.c.state.in_(LIVE), LATENTS_KEY.in_(list(keys)) & ~losing),
        )
        with self._reader.connect() as connection:
            rows = connection.execute(statement).all()
        live = {digest for digest, state, _ in rows if state in LIVE}
        waiting = {key for key, users in keys.items() if live.intersection(users)}
        return waiting | {key for _, _, key in rows if key is not None}


def _due_job(row: Any) -> DueJob:
    result = row.result or {}
    outputs = {
        role: (each["key"], each["size"]) for role, each in result.get("outputs", {}).items()
    }
    digests: Sequence[str] = ()
    if LATENTS in outputs:
        try:
            digests = inversion_digests(row.spec, result)
        except InvalidInput:
            # Another version's: its inversion stays, as pruning leaves it.
            del outputs[LATENTS]
    dues = frozenset(what for what in What if row._mapping[f"due_{what}"])
    return DueJob(row.id, dues, outputs, tuple(digests))
