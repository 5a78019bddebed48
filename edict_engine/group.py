"""One batch and its lanes.

A *lane* is a running trajectory; it holds one batch row for each row of its guidance. A *group*
holds the lanes of one latent shape whose batches have one row count, its *rung*. A turn takes one
query from every lane, evaluates all of them in a single network call, and sends the answers back.
Lanes may differ in timestep, direction, prompt, guidance and sampler.

Invariant: the batch of a group always has exactly ``rung`` rows (idle ones repeat a busy one),
and a lane stays in the group it started in. At a fixed batch shape a row's result depends neither
on its neighbours nor on its position, while another shape changes the last bits: this is what
lets an inversion reproduce bit for bit beside other work. Never resize a running group: what no
longer fits into memory starts again from its beginning in another one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from edict_engine.attention import RowControl
from edict_engine.conditioning import Conditioning
from edict_engine.errors import Cancelled, Diverged
from edict_engine.fixed_point import LIMIT
from edict_engine.guidance import Guidance
from edict_engine.memory import ran_out
from edict_engine.samplers import Coroutine, Query
from edict_engine.ticket import Ticket
from edict_engine.transfers import move

LatentShape = tuple[int, int, int]

T = TypeVar("T")


class Denoise(Protocol):
    """The network, on a batch of R rows."""

    def __call__(
        self,
        latents: Tensor,
        timesteps: Tensor,
        contexts: Conditioning,
        controls: Sequence[RowControl] = (),
        /,
    ) -> Tensor:
        """ε(latents (R, C, H, W) float64, timesteps (R,), contexts of R rows) → (R, C, H, W).

        ``controls`` are few and name their rows; a row that none names must not depend on them.
        """


@dataclass(frozen=True)
class Trajectory(Generic[T]):
    """One run of a sampler: what starts it, its guidance, (C, H, W), how many queries it asks.

    ``start`` makes the sampler's coroutine, on the device thread, and makes it anew if the
    trajectory has to start again. ``turns`` is only for progress.
    """

    start: Callable[[], Coroutine[T]]
    guidance: Guidance
    latent_shape: LatentShape
    turns: int


@dataclass(frozen=True, order=True)
class Submission:
    """A trajectory that was handed to the engine; sorts by priority, then by arrival.

    ``pinned`` is the only rung that it may run at, if that matters.
    """

    rank: tuple[int, int]
    trajectory: Trajectory[Any] = field(compare=False)
    ticket: Ticket[Any] = field(compare=False)
    pinned: int | None = field(compare=False)

    @property
    def rows(self) -> int:
        """Batch rows that it needs."""
        return self.trajectory.guidance.rows


class Lane:
    """A running trajectory and the query that it waits for an answer to."""

    def __init__(self, submission: Submission) -> None:
        self.submission = submission
        self.rows = submission.rows
        self.control = submission.trajectory.guidance.control
        self.contexts: Conditioning
        self.query: Query
        self._guidance = submission.trajectory.guidance
        self._coroutine: Coroutine[Any]
        self._ticket = submission.ticket

    def start(self) -> None:
        """Set ``contexts`` and run the coroutine to its first query."""
        self._resume(self._first_query)

    def answer(self, noise: Tensor) -> None:
        """Send ``noise``, float64 (C, H, W), and run the coroutine to its next query or end."""
        self._ticket.advance()
        self._resume(lambda: self._coroutine.send(noise))

    def combine(self, outputs: Tensor) -> Tensor:
        """Turn the network's outputs for this lane's rows into the noise that it asked for."""
        return self._guidance.combine(outputs, self.query.timestep)

    def fail(self, error: Exception) -> None:
        """End the ticket with ``error``."""
        self._coroutine.close()
        self._ticket.fail(error)

    def stop(self) -> Submission:
        """Give up what was done, so that the submission can start again elsewhere."""
        self._coroutine.close()
        self._ticket.restart()
        return self.submission

    @property
    def running(self) -> bool:
        """Whether there is a query to answer."""
        return not self._ticket.done

    def stop_if_cancelled(self) -> None:
        """Honour a cancellation asked for since the last turn."""
        if self._ticket.cancel_requested:
            self.fail(Cancelled("the trajectory was cancelled"))

    def _first_query(self) -> Query:
        self.contexts = self._guidance.contexts
        self._coroutine = self.submission.trajectory.start()
        return next(self._coroutine)

    def _resume(self, run: Callable[[], Query]) -> None:
        try:
            self.query = run()
        except StopIteration as end:
            self._ticket.succeed(end.value)
        except Exception as error:
            # Whatever one sampler does, its neighbours go on.
            self._ticket.fail(error)


@dataclass(frozen=True)
class _Layout:
    """What belongs in each row of a group's batch, for as long as its lanes stay the same.

    ``owners``: the lane of each row, int64 (R,); padding repeats the first lane's first row.
    ``contexts``: what each row is told. ``counts``: each lane's rows. ``controls``: attention
    control between rows.
    """

    owners: Tensor
    contexts: Conditioning
    counts: list[int]
    controls: list[RowControl]

    @classmethod
    def of(cls, lanes: Sequence[Lane], rung: int) -> "_Layout":
        """Lay out ``lanes`` one after the other."""
        counts = [lane.rows for lane in lanes]
        owners = [index for index, count in enumerate(counts) for _ in range(count)]
        owners += [0] * (rung - len(owners))
        contexts = Conditioning.cat([lane.contexts for lane in lanes]).padded(rung)
        starts = accumulate(counts, initial=0)
        controls = [
            lane.control.at(start)
            for lane, start in zip(lanes, starts, strict=False)
            if lane.control is not None
        ]
        device = lanes[0].query.latent.device
        return cls(torch.tensor(owners, device=device), contexts, counts, controls)


class Group:
    """The lanes of one latent shape that share batches of ``rung`` rows."""

    def __init__(self, rung: int) -> None:
        self.rung = rung
        self.lanes: list[Lane] = []
        self._layout: _Layout | None = None

    @property
    def busy_rows(self) -> int:
        """Rows that belong to a lane."""
        return sum(lane.rows for lane in self.lanes)

    def admit(self, lane: Lane) -> None:
        """Start ``lane`` here. Its rows must fit."""
        lane.start()
        self._keep([*self.lanes, lane])

    def turn(self, denoise: Denoise) -> bool:
        """Take one query of every lane to the network and send the answers back.

        Return False if memory did not suffice for the call. The lanes are then as they were.
        """
        for lane in self.lanes:
            lane.stop_if_cancelled()
        self._keep(self.lanes)
        if not self.lanes:
            return True
        try:
            noises, healthy = self._evaluate(denoise)
        except Exception as error:
            if ran_out(error):
                return False
            # The call failed, and with it everything in it.
            for lane in self.lanes:
                lane.fail(error)
        else:
            for lane, noise, fine in zip(self.lanes, noises, healthy, strict=True):
                if fine:
                    lane.answer(noise)
                else:
                    lane.fail(Diverged(lane.query.position, lane.query.timestep))
        self._keep(self.lanes)
        return True

    def fail(self, error: Exception) -> None:
        """End every lane with ``error``."""
        for lane in self.lanes:
            if lane.running:
                lane.fail(error)
        self._keep([])

    def _keep(self, lanes: Sequence[Lane]) -> None:
        """Hold those of ``lanes`` that still run; forget the layout if that changes it."""
        running = [lane for lane in lanes if lane.running]
        if running != self.lanes:
            self.lanes = running
            self._layout = None

    def _evaluate(self, denoise: Denoise) -> tuple[list[Tensor], list[bool]]:
        """Return each lane's noise, float64 (C, H, W), and whether it is fit to go on with."""
        latents = torch.stack([lane.query.latent for lane in self.lanes])
        timesteps = torch.tensor([lane.query.timestep for lane in self.lanes])
        layout = self._layout = self._layout or _Layout.of(self.lanes, self.rung)
        outputs = denoise(
            latents[layout.owners],
            move(timesteps, latents.device)[layout.owners],
            layout.contexts,
            layout.controls,
        )
        chunks = torch.split(outputs[: self.busy_rows].to(torch.float64), layout.counts)
        noises = [lane.combine(chunk) for lane, chunk in zip(self.lanes, chunks, strict=True)]
        return noises, _within_limit(latents, torch.stack(noises))


def _within_limit(latents: Tensor, noises: Tensor) -> list[bool]:
    """Tell for each lane, (n, C, H, W), whether all is finite and in the fixed point's range.

    NaN compares false. Reading the answer is the one synchronisation with the device in a turn;
    without it the host would run ahead, and progress and cancellation would mean nothing.
    """
    largest = torch.maximum(latents.abs().amax((1, 2, 3)), noises.abs().amax((1, 2, 3)))
    within: list[bool] = (largest <= LIMIT).tolist()
    return within
