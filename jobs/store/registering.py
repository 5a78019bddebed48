"""Workers, as they report themselves."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import case, func, select

from jobs.records import Worker
from jobs.states import State
from jobs.store.base import StorePart
from jobs.tables import jobs, workers


class Registering(StorePart):
    """The list of worker processes."""

    def register_worker(self, worker: Worker) -> None:
        """Enter a worker process; its heartbeats keep it alive in the list."""
        entry = self._insert(workers).values(**vars(worker))
        # One that was killed could not strike itself; its successor may bear its name.
        entry = entry.on_conflict_do_update(index_elements=["name"], set_=vars(worker))
        with self._engine.begin() as connection:
            connection.execute(entry)

    def remove_worker(self, name: str) -> None:
        """Strike a worker process that stops."""
        with self._engine.begin() as connection:
            connection.execute(workers.delete().where(workers.c.name == name))

    def forget_workers(self, *, unseen_for: timedelta) -> int:
        """Strike those that died long ago and could not strike themselves; says how many."""
        dead = workers.delete().where(workers.c.seen_at < self._clock() - unseen_for)
        with self._engine.begin() as connection:
            return len(connection.execute(dead.returning(workers.c.name)).all())

    def workers(self) -> list[Worker]:
        """All workers that did not strike themselves, last heard of first."""
        statement = select(workers).order_by(workers.c.seen_at.desc(), workers.c.name)
        with self._reader.connect() as connection:
            return [Worker(*row) for row in connection.execute(statement)]

    def live_workers(self, *, seen_within: float) -> list[Worker]:
        """Workers that gave a sign of life in the last `seen_within` seconds."""
        since = self._clock() - timedelta(seconds=seen_within)
        statement = select(workers).where(workers.c.seen_at >= since).order_by(workers.c.name)
        with self._reader.connect() as connection:
            return [Worker(*row) for row in connection.execute(statement)]

    def busy_lanes(self, names: Sequence[str]) -> int:
        """How many lanes of these workers have a job, at most as many as each has.

        A worker holds more jobs than it has lanes: their images come and go meanwhile.
        """
        held = (
            select(jobs.c.worker, func.count().label("number"))
            .where(jobs.c.state == State.RUNNING, jobs.c.worker.in_(names))
            .group_by(jobs.c.worker)
            .subquery()
        )
        busy = case((held.c.number < workers.c.lanes, held.c.number), else_=workers.c.lanes)
        statement = select(func.sum(busy)).join_from(held, workers, workers.c.name == held.c.worker)
        with self._reader.connect() as connection:
            return int(connection.scalar(statement) or 0)
