"""Running out of memory: which batches are given up, and that no trajectory is."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from edict_engine.attention import RowControl
from edict_engine.conditioning import Conditioning
from edict_engine.engine import Engine
from edict_engine.errors import Cancelled, OutOfMemory
from edict_engine.fixed_point import LatentPair
from edict_engine.lanes import Lanes
from edict_engine.memory import ran_out
from edict_engine.parameters import SamplerParameters
from edict_engine.ticket import Ticket

from .conftest import FakeModel, fake_guidance, start_pair, trajectory

STEPS = SamplerParameters(steps=3, strength=1.0)
TURNS = 6


class SmallDevice(FakeModel):
    """A network whose batches may have so many latent values, from so many calls on.

    Its answers depend on the row count, as a real one's last bits do. ``calls`` has only those
    that fitted.
    """

    def __init__(self, rows: int, *, width: int = 8, fits_at_first: int = 0) -> None:
        super().__init__()
        self.limit = rows * width
        self.fits_at_first = fits_at_first
        self.error: Exception = torch.OutOfMemoryError("CUDA out of memory")

    def denoise(
        self,
        latents: Tensor,
        timesteps: Tensor,
        contexts: Conditioning,
        controls: Sequence[RowControl] = (),
    ) -> Tensor:
        if len(latents) * latents.shape[-1] > self.limit and len(self.calls) >= self.fits_at_first:
            raise self.error
        noise = super().denoise(latents, timesteps, contexts, controls)
        return noise + 1e-6 * len(latents)


class Bench:
    """``Lanes`` over a small device."""

    def __init__(self, *rungs: int, device: SmallDevice) -> None:
        self.device = device
        self.lanes = Lanes(device.denoise, rungs)

    def add(
        self,
        seed: int = 0,
        *,
        priority: int = 0,
        rung: int | None = None,
        width: int = 8,
        guidance: float = 3.0,
    ) -> Ticket[LatentPair]:
        work = trajectory(
            STEPS, start_pair(seed, (4, 8, width)), guidance=fake_guidance(guidance, 1.0)
        )
        ticket: Ticket[LatentPair] = Ticket(work.turns)
        self.lanes.add(work, ticket, priority, rung)
        return ticket

    def finish(self) -> None:
        while not self.lanes.idle:
            self.lanes.turn()

    @property
    def batch_sizes(self) -> list[int]:
        return [shape[0] for shape, _ in self.device.calls]


def at_rung(rung: int, seed: int) -> LatentPair:
    """What a trajectory becomes on a large device, in batches of ``rung`` rows."""
    bench = Bench(rung, device=SmallDevice(1000))
    ticket = bench.add(seed)
    bench.finish()
    return ticket.result()


@pytest.mark.parametrize("fits_at_first", [0, 1, 4])
def test_what_ran_out_of_memory_ends_as_if_it_had_always_run_at_the_smaller_rung(
    fits_at_first: int,
) -> None:
    # Given seven trajectories of two rows, and a device that soon holds only eight rows
    bench = Bench(2, 8, 16, device=SmallDevice(8, fits_at_first=fits_at_first))
    tickets = [bench.add(seed) for seed in range(7)]
    bench.finish()
    # Then each has the bits of its rung, which is not the one that it started at
    for seed, ticket in enumerate(tickets):
        assert ticket.rung in (2, 8)
        assert ticket.result(0).equal(at_rung(ticket.rung, seed))
        assert not ticket.result(0).equal(at_rung(16, seed))
        assert ticket.progress == (TURNS, TURNS)
    assert [size for size in bench.batch_sizes if size == 16] == [16] * fits_at_first


def test_progress_starts_again() -> None:
    bench = Bench(2, 4, device=SmallDevice(2, fits_at_first=3))
    ticket, _ = bench.add(), bench.add()
    for _ in range(3):
        bench.lanes.turn()
    assert (ticket.progress.done, ticket.rung) == (3, 4)
    bench.lanes.turn()
    assert (ticket.progress.done, ticket.rung) == (0, 0)
    bench.lanes.turn()
    assert (ticket.progress.done, ticket.rung) == (1, 2)


def test_priority_and_order_outlast_the_retreat() -> None:
    # Given three lanes of one batch, and one that waits
    bench = Bench(2, 6, device=SmallDevice(2))
    tickets = [bench.add(priority=priority) for priority in (0, 5, 0, 1)]
    # When only one of them fits at a time
    ends: list[int] = []
    while not bench.lanes.idle:
        bench.lanes.turn()
        ends += [i for i, ticket in enumerate(tickets) if ticket.done and i not in ends]
    # Then they run in the order in which they would have started
    assert ends == [1, 3, 0, 2]


def test_below_the_smallest_rung_rows_are_halved_until_they_fit() -> None:
    bench = Bench(16, device=SmallDevice(5))
    tickets = [bench.add(seed) for seed in range(4)]
    bench.finish()
    assert {ticket.rung for ticket in tickets} == {4}
    assert tickets[3].result().equal(at_rung(4, 3))
    # And what comes later does not try the large batches again.
    assert bench.add().rung == 0
    bench.finish()
    assert set(bench.batch_sizes) == {4}


def test_latents_of_other_shapes_go_on_at_their_rung() -> None:
    bench = Bench(2, 4, 8, device=SmallDevice(8))
    wide = [bench.add(seed, width=16) for seed in range(4)]
    small = [bench.add(seed) for seed in range(4)]
    bench.finish()
    assert [ticket.rung for ticket in small] == [8] * 4
    assert [ticket.rung for ticket in wide] == [4] * 4
    assert small[2].result().equal(at_rung(8, 2))
    assert bench.batch_sizes.count(8) == TURNS


def test_a_trajectory_whose_own_rows_do_not_fit_fails_and_narrower_ones_go_on() -> None:
    bench = Bench(4, device=SmallDevice(1))
    guided, plain = bench.add(), bench.add(guidance=1.0)
    bench.finish()
    with pytest.raises(
        OutOfMemory, match=r"2 rows, the fewest .* latents of 4x8x8: .*smaller image"
    ):
        guided.result(0)
    assert plain.result(0).shape == (4, 8, 8)
    assert plain.rung == 1


def test_memory_that_comes_back_is_used_by_the_next_trajectory_that_needs_it() -> None:
    bench = Bench(2, device=SmallDevice(1))
    lost = bench.add()
    bench.finish()
    bench.device.limit = 1000
    found = bench.add()
    bench.finish()
    assert (lost.done, found.rung) == (True, 2)
    with pytest.raises(OutOfMemory):
        lost.result()
    assert found.result().equal(at_rung(2, 0))


def test_a_pinned_trajectory_fails_and_its_free_neighbours_go_on() -> None:
    bench = Bench(2, 8, device=SmallDevice(2))
    pinned = bench.add(rung=8)
    free = [bench.add(seed) for seed in range(3)]
    bench.finish()
    with pytest.raises(OutOfMemory, match=r"8 rows, as its inversion had.*invert the image again"):
        pinned.result(0)
    for seed, ticket in enumerate(free):
        assert ticket.result(0).equal(at_rung(2, seed))


def test_a_cancelled_trajectory_does_not_start_again() -> None:
    bench = Bench(2, 4, device=SmallDevice(2, fits_at_first=1))
    cancelled, other = bench.add(0), bench.add(1)
    bench.lanes.turn()
    bench.lanes.turn()
    cancelled.cancel()
    bench.finish()
    with pytest.raises(Cancelled):
        cancelled.result(0)
    assert other.result(0).equal(at_rung(2, 1))


@pytest.mark.parametrize(
    "saying",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_memory_that_cudas_own_libraries_did_not_get_counts(saying: str) -> None:
    assert ran_out(RuntimeError(saying))


def test_a_device_that_breaks_while_memory_is_given_back_leaves_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a device that runs out of memory, and then does nothing any more
    def broken() -> None:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", broken)
    bench = Bench(2, 4, device=SmallDevice(2))
    tickets = [bench.add(seed) for seed in range(2)]
    # When the batch is halved
    bench.finish()
    # Then what waits goes on, and would hear of the fault from its next call
    assert [ticket.rung for ticket in tickets] == [2, 2]


def test_the_cpus_allocator_counts_and_other_errors_do_not() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert ran_out(caught.value)
    assert ran_out(MemoryError())
    assert not ran_out(RuntimeError("the shapes do not fit"))
    device = SmallDevice(2)
    device.error = caught.value
    with Engine(device, rungs=(2, 4)) as engine:
        tickets = [engine.submit(trajectory(STEPS, start_pair(seed))) for seed in range(2)]
        for seed, ticket in enumerate(tickets):
            assert ticket.result(30).equal(at_rung(2, seed))
