"""Continuous batching without threads: what waits, what runs, and whose turn it is.

Trajectories wait by priority, start in the group (see ``group``) of their latent shape and rung as
soon as there is room, and the groups take turns.

A rung that does not fit into memory is not used again for latents of that shape. What ran there
waits again, in its old place, and starts from its beginning at the next smaller rung: half of a
trajectory at one rung and half at another would be bits that nothing can reproduce.

Express trajectories, those of at least a given priority, run in groups of their own, which take
every turn while there are any: their time depends on nobody's work but one turn of it.
"""

import bisect
import math
from collections.abc import Sequence
from typing import NamedTuple

from edict_engine import memory
from edict_engine.errors import Cancelled, OutOfMemory
from edict_engine.group import Denoise, Group, Lane, LatentShape, Submission, T, Trajectory
from edict_engine.ticket import Ticket


class Apart(NamedTuple):
    """Why a trajectory does not share batches with all others of its shape and rung."""

    express: bool
    controlled: bool


GroupKey = tuple[LatentShape, int, Apart]
"""Latent shape, rung, and what sets its work apart: hurry, or attention control."""


class Lanes:
    """Everything that runs or waits to, in groups that take turns.

    ``rungs`` is the ladder of row counts for trajectories that name none: the smallest that holds
    all that runs and waits of their shape, so that a lonely one does not pay for idle rows.
    ``express`` is the priority from which trajectories are express; None: none are.
    ``controls_apart``: trajectories under attention control share no batch with others, for a
    network that computes other bits where there is any.
    """

    def __init__(
        self,
        denoise: Denoise,
        rungs: Sequence[int],
        *,
        express: float | None = None,
        controls_apart: bool = False,
    ) -> None:
        self._denoise = denoise
        self._express = math.inf if express is None else express
        self._controls_apart = controls_apart
        self._ladder = Ladder(rungs)
        self._waiting: list[Submission] = []
        self._arrivals = 0
        self._groups: dict[GroupKey, Group] = {}

    @property
    def busy_rows(self) -> int:
        """Rows of batches that have work; may be asked by any thread, and is a moment old then."""
        return sum(group.busy_rows for group in list(self._groups.values()))

    @property
    def idle(self) -> bool:
        """Whether nothing runs or waits."""
        return not (self._waiting or self._groups)

    @property
    def at_work(self) -> bool:
        """Whether anything runs, or is to run at once, or nothing waits to."""
        return bool(self._groups) or self.hurried or not self._waiting

    @property
    def hurried(self) -> bool:
        """Whether express work runs or waits."""
        waiting = any(-entry.rank[0] >= self._express for entry in self._waiting)
        return waiting or any(key[2].express for key in self._groups)

    def add(
        self, trajectory: Trajectory[T], ticket: Ticket[T], priority: int, rung: int | None
    ) -> None:
        """Queue ``trajectory``: higher ``priority`` first, then by arrival; see ``Engine``."""
        self._arrivals += 1
        rank = (-priority, self._arrivals)
        bisect.insort(self._waiting, Submission(rank, trajectory, ticket, rung))

    def turn(self) -> None:
        """Admit what fits, then run one turn of the group whose turn it is."""
        self._admit()
        if not self._groups:
            return
        key = max(self._groups, key=_is_express)  # of equals the first
        group = self._groups[key]
        enough = group.turn(self._denoise)
        del self._groups[key]
        if not enough:
            self._retreat(key, group.lanes)
        elif group.lanes:
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
        closed: set[GroupKey] = set()
        for waiting in tuple(self._waiting):
            if waiting.ticket.cancel_requested:
                self._waiting.remove(waiting)
                waiting.ticket.fail(Cancelled("the trajectory was cancelled before it started"))
                continue
            key = self._key(waiting)
            if key in closed or not self._fits(key, waiting.rows):
                closed.add(key)
                continue
            self._waiting.remove(waiting)
            self._start(waiting, key)

    def _fits(self, key: GroupKey, rows: int) -> bool:
        busy = self._groups[key].busy_rows if key in self._groups else 0
        return busy + rows <= key[1]

    def _start(self, waiting: Submission, key: GroupKey) -> None:
        waiting.ticket.rung = key[1]
        group = self._groups.setdefault(key, Group(key[1]))
        group.admit(Lane(waiting))

    def _key(self, submission: Submission) -> GroupKey:
        rung = submission.pinned or self._rung(submission)
        return submission.trajectory.latent_shape, rung, self._apart(submission)

    def _apart(self, submission: Submission) -> Apart:
        hurries = -submission.rank[0] >= self._express
        controlled = submission.trajectory.guidance.control is not None
        return Apart(hurries, controlled and self._controls_apart)

    def _rung(self, submission: Submission) -> int:
        """Return the rung for all unpinned work like it, or for it alone if it is wider."""
        shape, apart = submission.trajectory.latent_shape, self._apart(submission)
        waiting = sum(
            entry.rows
            for entry in self._waiting
            if entry.trajectory.latent_shape == shape
            and entry.pinned is None
            and self._apart(entry) == apart
        )
        running = sum(
            group.busy_rows
            for (other, _, other_apart), group in self._groups.items()
            if (other, other_apart) == (shape, apart)
        )
        return max(self._ladder.rung(shape, waiting + running), submission.rows)

    def _retreat(self, key: GroupKey, lanes: Sequence[Lane]) -> None:
        """Let ``lanes``, whose batch was too large, wait for a smaller one, or end them."""
        shape, rung, _ = key
        memory.release()
        self._ladder.drop(shape, rung)
        for lane in lanes:
            pinned = lane.submission.pinned is not None
            if pinned or lane.rows == rung:
                lane.fail(OutOfMemory(rung, shape, pinned=pinned))
            else:
                bisect.insort(self._waiting, lane.stop())


def _is_express(key: GroupKey) -> bool:
    return key[2].express


class Ladder:
    """The row counts that batches may have, without those that memory did not suffice for.

    That is remembered for each latent shape, since a large image may not fit where small ones do.
    """

    def __init__(self, rungs: Sequence[int]) -> None:
        self._rungs = sorted(rungs)
        self._largest: dict[LatentShape, int] = {}

    def rung(self, shape: LatentShape, rows: int) -> int:
        """Return the smallest rung that holds ``rows``, or the largest that there is."""
        allowed = self._allowed(shape)
        return next((rung for rung in allowed if rung >= rows), allowed[-1])

    def drop(self, shape: LatentShape, rung: int) -> None:
        """Use no rung of ``rung`` rows or more again; below the smallest, halve."""
        smaller = [each for each in self._allowed(shape) if each < rung]
        self._largest[shape] = smaller[-1] if smaller else max(1, rung // 2)

    def _allowed(self, shape: LatentShape) -> list[int]:
        largest = self._largest.get(shape, self._rungs[-1])
        return [rung for rung in self._rungs if rung <= largest] or [largest]
