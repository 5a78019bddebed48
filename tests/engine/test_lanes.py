"""Admission, batching and failure, turn by turn, without a thread."""

from collections.abc import Generator
from functools import partial

import pytest
import torch
from torch import Tensor

from edict_engine.conditioning import Conditioning
from edict_engine.errors import Cancelled, Diverged, EngineError
from edict_engine.fixed_point import LatentPair
from edict_engine.group import Denoise, Trajectory
from edict_engine.lanes import Lanes
from edict_engine.parameters import SamplerParameters
from edict_engine.samplers import Query
from edict_engine.ticket import Ticket

from .conftest import FakeModel, drive, fake_guidance, fake_noise, start_pair, trajectory

TWO_STEPS = SamplerParameters(steps=2, strength=1.0)


class Bench:
    """``Lanes`` over a fake network, and what was added to it."""

    def __init__(
        self, *rungs: int, denoise: Denoise | None = None, express: int | None = None
    ) -> None:
        self.model = FakeModel()
        self.lanes = Lanes(denoise or self.model.denoise, rungs, express=express)

    def add(
        self, work: Trajectory[LatentPair] | None = None, priority: int = 0, rung: int | None = None
    ) -> Ticket[LatentPair]:
        work = work or trajectory(TWO_STEPS)
        ticket: Ticket[LatentPair] = Ticket(work.turns)
        self.lanes.add(work, ticket, priority, rung)
        return ticket

    def finish(self) -> int:
        """Run to the end; return the number of turns."""
        turns = 0
        while not self.lanes.idle:
            self.lanes.turn()
            turns += 1
        return turns

    @property
    def batch_sizes(self) -> list[int]:
        return [shape[0] for shape, _ in self.model.calls]


def running(tickets: list[Ticket[LatentPair]]) -> list[bool]:
    return [ticket.rung > 0 for ticket in tickets]


def test_lanes_of_every_kind_share_one_call_and_each_gets_what_it_would_get_alone() -> None:
    # Given trajectories of different sampler, direction, length, mix and start
    kinds = [
        (SamplerParameters(steps=3, strength=1.0, guidance=1.0), "invert"),
        (SamplerParameters(steps=5, strength=0.6, guidance=1.0, mix=0.8), "generate"),
        (SamplerParameters("ddim", steps=4, strength=1.0, guidance=1.0), "generate"),
    ]
    bench = Bench(4)
    works = [
        trajectory(kind, start_pair(seed), direction=direction)
        for seed, (kind, direction) in enumerate(kinds)
    ]
    alone = [
        trajectory(kind, start_pair(seed), direction=direction)
        for seed, (kind, direction) in enumerate(kinds)
    ]
    # When they run together
    tickets = [bench.add(work) for work in works]
    turns = bench.finish()
    # Then it took as many calls as the longest needs, and every pair is the lonely one's
    assert turns == 6
    for ticket, work in zip(tickets, alone, strict=True):
        expected = drive(work.start(), lambda latent, t: fake_noise(latent, t) + 0.1)
        assert ticket.result().equal(expected)


def test_every_call_has_exactly_the_rungs_rows_however_few_are_busy() -> None:
    bench = Bench(8)
    bench.add(trajectory(SamplerParameters(steps=1, strength=1.0)))
    bench.add(trajectory(TWO_STEPS))
    bench.finish()
    assert bench.batch_sizes == [8, 8, 8, 8]


def test_guidance_combines_a_lanes_own_rows() -> None:
    # The fake network adds a tenth of the context's value (1 for the prompt, 0 without).
    bench = Bench(4)
    work = trajectory(SamplerParameters("ddim", steps=2, strength=1.0, guidance=3.0))
    ticket = bench.add(work)
    bench.finish()
    expected = trajectory(SamplerParameters("ddim", steps=2, strength=1.0, guidance=3.0))
    assert ticket.result().equal(drive(expected.start(), guided_noise))


@pytest.mark.parametrize(("count", "rung"), [(1, 2), (2, 8), (4, 8), (5, 16), (9, 16)])
def test_the_smallest_rung_that_holds_all_is_taken(count: int, rung: int) -> None:
    bench = Bench(2, 8, 16)
    tickets = [bench.add() for _ in range(count)]
    bench.lanes.turn()
    assert {ticket.rung for ticket in tickets if ticket.rung} == {rung}


def test_a_lane_stays_at_its_rung_when_more_work_arrives() -> None:
    bench = Bench(2, 8)
    first = bench.add()
    bench.lanes.turn()
    later = [bench.add() for _ in range(2)]
    bench.finish()
    assert (first.rung, [ticket.rung for ticket in later]) == (2, [8, 8])
    assert first.result().equal(later[0].result())


def test_a_pinned_rung_is_kept_beside_an_empty_smaller_one() -> None:
    bench = Bench(2, 8)
    assert bench.add(rung=16).rung == 0
    bench.finish()
    assert set(bench.batch_sizes) == {16}


def test_higher_priority_starts_first_and_equal_ones_in_order() -> None:
    bench = Bench(2)
    tickets = [bench.add(priority=priority) for priority in (0, 5, 0, 5)]
    started = []
    while not bench.lanes.idle:
        bench.lanes.turn()
        started += [i for i, t in enumerate(tickets) if t.rung and i not in started]
    assert started == [1, 3, 0, 2]


def test_an_urgent_trajectory_joins_the_running_ones_at_the_next_turn() -> None:
    bench = Bench(4)
    bulk = bench.add()
    bench.lanes.turn()
    urgent, later = bench.add(priority=9), bench.add(priority=8)
    bench.lanes.turn()
    assert running([bulk, urgent, later]) == [True, True, False]
    assert not bulk.done
    assert (bulk.progress.done, urgent.progress.done) == (2, 1)


def test_express_work_takes_every_turn_at_a_rung_of_its_own_and_bulk_goes_on_after_it() -> None:
    bench = Bench(2, 8, express=100)
    bulk = [bench.add(priority=99) for _ in range(4)]
    bench.lanes.turn()
    express = bench.add(priority=100)

    for _ in range(4):
        bench.lanes.turn()

    assert bench.batch_sizes == [8, 2, 2, 2, 2]
    assert express.done
    assert [ticket.progress.done for ticket in bulk] == [1] * 4
    bench.finish()
    assert all(ticket.result().equal(express.result()) for ticket in bulk)


def test_express_work_of_two_shapes_takes_turns_too() -> None:
    bench = Bench(4, express=1)
    for shape in ((4, 8, 8), (4, 8, 16)):
        bench.add(trajectory(TWO_STEPS, start_pair(shape=shape)), priority=1)
    bench.finish()
    assert [tuple(shape[-2:]) for shape, _ in bench.model.calls] == [(8, 8), (8, 16)] * 4


def test_narrow_work_does_not_starve_a_wide_one_that_waits() -> None:
    # Given a batch of 3 rows with 1 free, and work that needs 2 in front of work that needs 1
    bench = Bench(3)
    bench.add()
    bench.lanes.turn()
    wide = bench.add()
    narrow = bench.add(trajectory(SamplerParameters(steps=2, strength=1.0, guidance=1.0)))
    # Then the narrow one waits its turn
    bench.lanes.turn()
    assert running([wide, narrow]) == [False, False]
    bench.finish()
    assert wide.done
    assert narrow.done


def test_groups_of_different_shapes_take_turns() -> None:
    bench = Bench(4)
    bench.add(trajectory(TWO_STEPS, start_pair(shape=(4, 8, 8))))
    bench.add(trajectory(TWO_STEPS, start_pair(shape=(4, 8, 16))))
    bench.finish()
    assert [tuple(shape[-2:]) for shape, _ in bench.model.calls] == [(8, 8), (8, 16)] * 4


def test_progress_counts_turns() -> None:
    bench = Bench(2)
    ticket = bench.add()
    assert ticket.progress == (0, 4)
    bench.lanes.turn()
    assert ticket.progress == (1, 4)
    bench.finish()
    assert ticket.progress == (4, 4)


def test_cancelling_frees_the_lane_at_the_next_turn() -> None:
    bench = Bench(4)
    cancelled, other, waiting = bench.add(), bench.add(), bench.add()
    bench.lanes.turn()
    cancelled.cancel()
    bench.lanes.turn()
    bench.lanes.turn()
    assert running([waiting]) == [True]
    bench.finish()
    with pytest.raises(Cancelled):
        cancelled.result()
    assert other.result().equal(waiting.result())


def test_cancelling_what_waits_never_starts_it() -> None:
    bench = Bench(2)
    bench.add()
    ticket = bench.add()
    ticket.cancel()
    bench.lanes.turn()
    with pytest.raises(Cancelled):
        ticket.result(0)
    assert ticket.rung == 0


def test_guidance_that_cannot_be_laid_out_fails_only_its_own_ticket() -> None:
    broken = fake_guidance()
    object.__setattr__(broken, "cond", None)
    bench = Bench(8)
    good, bad = bench.add(), bench.add(trajectory(TWO_STEPS, guidance=broken))
    bench.finish()
    assert good.result().shape == (4, 8, 8)
    with pytest.raises(AttributeError):
        bad.result()


def test_an_error_in_one_sampler_fails_only_its_own_ticket() -> None:
    def broken(after: int) -> Generator[Query, Tensor, LatentPair]:
        for position in range(after):
            yield Query(torch.zeros(4, 8, 8, dtype=torch.float64), 10, position)
        raise ZeroDivisionError("a bug")

    bench = Bench(8)
    good = bench.add()
    bad = [bench.add(Trajectory(partial(broken, n), fake_guidance(), (4, 8, 8), 9)) for n in (0, 2)]
    bench.finish()
    assert good.result().equal(drive(trajectory(TWO_STEPS).start(), guided_noise))
    for ticket in bad:
        with pytest.raises(ZeroDivisionError, match="a bug"):
            ticket.result()


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 5000.0])
def test_noise_out_of_range_fails_its_lane_with_step_and_timestep(poison: float) -> None:
    # Given a network that poisons rows of value 7 from timestep 250 on
    def poisoned(
        latents: Tensor, timesteps: Tensor, contexts: Conditioning, controls: object = ()
    ) -> Tensor:
        noise = FakeModel().denoise(latents, timesteps, contexts)
        sick = (contexts.hidden[:, 0, 0] == 7) & (timesteps >= 250)
        noise[sick, 0, 0, 0] = poison
        return noise

    bench = Bench(8, denoise=poisoned)
    good = bench.add(trajectory(SamplerParameters(steps=4, strength=1.0)))
    bad = bench.add(
        trajectory(SamplerParameters(steps=4, strength=1.0), guidance=fake_guidance(3.0, 7.0))
    )
    bench.finish()
    # Then that lane alone fails, and says where: position 2 of timesteps 750, 500, 250, 0
    with pytest.raises(Diverged) as caught:
        bad.result()
    assert (caught.value.step, caught.value.timestep) == (2, 250)
    assert good.result().shape == (4, 8, 8)


def test_a_latent_out_of_range_fails_even_where_the_noise_is_fine() -> None:
    far = start_pair()
    bench = Bench(2)
    ticket = bench.add(trajectory(TWO_STEPS, LatentPair(far.x * 1000, far.y * 1000)))
    bench.finish()
    with pytest.raises(Diverged):
        ticket.result()


def test_a_failed_network_call_fails_all_in_the_call_and_nothing_else() -> None:
    def failing(
        latents: Tensor, timesteps: Tensor, contexts: Conditioning, controls: object = ()
    ) -> Tensor:
        if latents.shape[-1] == 16:
            raise RuntimeError("out of memory")
        return FakeModel().denoise(latents, timesteps, contexts)

    bench = Bench(4, denoise=failing)
    fine = bench.add()
    lost = [bench.add(trajectory(TWO_STEPS, start_pair(shape=(4, 8, 16)))) for _ in range(2)]
    bench.finish()
    assert fine.result().shape == (4, 8, 8)
    for ticket in lost:
        with pytest.raises(RuntimeError, match="out of memory"):
            ticket.result()


def test_failing_everything_ends_what_runs_and_what_waits() -> None:
    bench = Bench(2)
    tickets = [bench.add(), bench.add()]
    bench.lanes.turn()
    bench.lanes.fail(EngineError("over"))
    assert bench.lanes.idle
    for ticket in tickets:
        with pytest.raises(EngineError, match="over"):
            ticket.result(0)


def test_integers_stay_exact_through_the_loop() -> None:
    bench = Bench(2, 8)
    start = start_pair()
    inverted = bench.add(trajectory(TWO_STEPS, start))
    bench.finish()
    back = bench.add(trajectory(TWO_STEPS, inverted.result(), direction="generate"))
    bench.finish()
    assert back.result().equal(start)


def guided_noise(latent: Tensor, timestep: float) -> Tensor:
    """What the fake network's two rows come to, bit for bit."""
    uncond, cond = fake_noise(latent, timestep), fake_noise(latent, timestep) + 0.1
    return uncond + 3.0 * (cond - uncond)
