"""Continuous batching without threads: what waits, what runs, and whose turn it is.

Trajectories wait by priority, start in the group (see ``group``) of their latent shape and rung as
soon as there is room, and the groups take turns.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edict_engine.errors import Cancelled
from edict_engine.group import Denoise, Group, Lane, LatentShape, T, Trajectory
from edict_engine.ticket import Ticket


@dataclass(order=True)
class Waiting:
    """A trajectory before its first turn; sorts by priority, then by arrival."""

    rank: tuple[int, int]
    trajectory: Trajectory[Any] = field(compare=False)
    ticket: Ticket[Any] = field(compare=False)
    pinned: int | None = field(compare=False)

    @property
    def rows(self) -> int:
        """Batch rows that it will need."""
        return self.trajectory.guidance.rows


class Lanes:
    """Everything that runs or waits to, in groups that take turns.

    ``rungs`` is the ladder of row counts for trajectories that name none: the smallest that holds
    all that runs and waits of their shape, so that a lonely one does not pay for idle rows.
    """

    def __init__(self, denoise: Denoise, rungs: Sequence[int]) -> None:
        self._denoise = denoise
        self._rungs = sorted(rungs)
        self._waiting: list[Waiting] = []
        self._arrivals = 0
        self._groups: dict[tuple[LatentShape, int], Group] = {}

    @property
    def idle(self) -> bool:
        """Whether nothing runs or waits."""
        return not (self._waiting or self._groups)

    def add(
        self, trajectory: Trajectory[T], ticket: Ticket[T], priority: int, rung: int | None
    ) -> None:
        """Queue ``trajectory``: higher ``priority`` first, then by arrival; see ``Engine``."""
        self._arrivals += 1
        rank = (-priority, self._arrivals)
        bisect.insort(self._waiting, Waiting(rank, trajectory, ticket, rung))

    def turn(self) -> None:
        """Admit what fits, then run one turn of the group whose turn it is."""
        self._admit()
        if not self._groups:
            return
        key, group = next(iter(self._groups.items()))
        group.turn(self._denoise)
        del self._groups[key]
        if group.lanes:
            self._groups[key] = group  # to the end of the line

    def fail(self, error: Exception) -> None:
        """End all that runs and waits with ``error``."""
        for group in self._groups.values():
            group.fail(error)
        for waiting in self._waiting:
            waiting.ticket.fail(error)
        self._groups.clear()
        self._waiting.clear()

    def _admit(self) -> None:
        """Start all that fits, best rank first.

        Once one must wait for a group, nothing behind it enters that group: a stream of narrow
        trajectories cannot starve a wide one.
        """
        closed: set[tuple[LatentShape, int]] = set()
        for waiting in tuple(self._waiting):
            if waiting.ticket.cancel_requested:
                self._waiting.remove(waiting)
                waiting.ticket.fail(Cancelled("the trajectory was cancelled before it started"))
                continue
            shape = waiting.trajectory.latent_shape
            key = shape, waiting.pinned or self._rung(shape)
            if key in closed or not self._fits(key, waiting.rows):
                closed.add(key)
                continue
            self._waiting.remove(waiting)
            self._start(waiting, key)

    def _fits(self, key: tuple[LatentShape, int], rows: int) -> bool:
        busy = self._groups[key].busy_rows if key in self._groups else 0
        return busy + rows <= key[1]

    def _start(self, waiting: Waiting, key: tuple[LatentShape, int]) -> None:
        waiting.ticket.rung = key[1]
        group = self._groups.setdefault(key, Group(key[1]))
        group.admit(Lane(waiting.trajectory, waiting.ticket))

    def _rung(self, shape: LatentShape) -> int:
        """Return the smallest rung that holds all unpinned work of ``shape``, or the largest."""
        waiting = sum(
            entry.rows
            for entry in self._waiting
            if entry.trajectory.latent_shape == shape and entry.pinned is None
        )
        running = sum(
            group.busy_rows for (other, _), group in self._groups.items() if other == shape
        )
        holding = (rung for rung in self._rungs if rung >= waiting + running)
        return next(holding, self._rungs[-1])
