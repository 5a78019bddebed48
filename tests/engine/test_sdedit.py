"""SDEdit: noise that can be repeated, no network on the way up, DDIM on the way down."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edict_engine.fixed_point import LatentPair, to_float
from edict_engine.lanes import Lanes
from edict_engine.parameters import SamplerParameters
from edict_engine.samplers import get_sampler
from edict_engine.ticket import Ticket

from .conftest import SCHEDULE, FakeModel, drive, fake_noise, start_pair, trajectory
from .textbook import ddim_generate

SDEDIT = get_sampler("sdedit")


def noised(start: LatentPair, parameters: SamplerParameters) -> LatentPair:
    grid = SCHEDULE.grid(parameters.steps, parameters.strength)
    inversion = SDEDIT.invert(start, grid, parameters)
    with pytest.raises(StopIteration) as end:
        next(inversion)
    pair: LatentPair = end.value.value
    return pair


@pytest.mark.parametrize(("steps", "strength"), [(1, 1.0), (10, 0.5), (50, 0.8), (50, 1.0)])
def test_the_noised_latent_is_the_forward_processs(steps: int, strength: float) -> None:
    start = start_pair()
    pair = noised(start, SamplerParameters("sdedit", steps, strength, seed=11))
    # In the paper's variables: x_t = sqrt(ᾱ_t)·x_0 + sqrt(1 - ᾱ_t)·n
    alpha = SCHEDULE.alphas_cumprod[SCHEDULE.grid(steps, strength)[0].timestep]
    generator = torch.Generator().manual_seed(11)
    noise = torch.randn(start.shape, generator=generator, dtype=torch.float64)
    x_0 = SCHEDULE.image_scale * to_float(start.x)
    expected = math.sqrt(alpha) * x_0 + math.sqrt(1 - alpha) * noise
    torch.testing.assert_close(math.sqrt(alpha) * to_float(pair.x), expected, atol=1e-8, rtol=0)
    assert torch.equal(pair.x, pair.y)


def test_the_noise_is_the_seeds_and_nothing_elses() -> None:
    start, other = start_pair(1), start_pair(2)
    parameters = SamplerParameters("sdedit", seed=5)
    before = torch.random.get_rng_state()
    first, again = noised(start, parameters), noised(start, parameters)
    assert first.equal(again)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not first.equal(noised(start, SamplerParameters("sdedit", seed=6)))
    difference = to_float(first.x - noised(other, parameters).x)
    expected = SCHEDULE.image_scale * to_float(start.x - other.x)
    torch.testing.assert_close(difference, expected, atol=1e-8, rtol=0)


def test_generation_is_ddims() -> None:
    grid, start, parameters = SCHEDULE.grid(10), start_pair(), SamplerParameters("sdedit")
    ours = drive(SDEDIT.generate(start, grid, parameters), fake_noise)
    assert ours.equal(drive(get_sampler("ddim").generate(start, grid, parameters), fake_noise))


def test_the_round_trip_is_not_exact_and_not_said_to_be() -> None:
    parameters = SamplerParameters("sdedit", steps=10, strength=0.5)
    grid, start = SCHEDULE.grid(10, 0.5), start_pair()
    back = drive(SDEDIT.generate(noised(start, parameters), grid, parameters), fake_noise)
    assert not back.equal(start)
    assert not SDEDIT.exact


@settings(deadline=None)
@given(
    steps=st.integers(1, 30),
    strength=st.floats(0.1, 1.0),
    seed=st.integers(0, 99),
    image=st.integers(0, 99),
)
def test_what_comes_back_is_what_the_papers_steps_make_of_the_image_and_the_noise(
    steps: int, strength: float, seed: int, image: int
) -> None:
    parameters = SamplerParameters("sdedit", steps, max(strength, 1 / steps), seed=seed)
    grid, start = SCHEDULE.grid(steps, parameters.strength), start_pair(image)
    timesteps = [int(step.timestep) for step in grid]
    back = drive(SDEDIT.generate(noised(start, parameters), grid, parameters), fake_noise)

    alpha = SCHEDULE.alphas_cumprod[timesteps[0]]
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(start.shape, generator=generator, dtype=torch.float64)
    x = math.sqrt(alpha) * SCHEDULE.image_scale * to_float(start.x) + math.sqrt(1 - alpha) * noise
    expected = ddim_generate(x, timesteps, fake_noise)
    torch.testing.assert_close(SCHEDULE.image_scale * to_float(back.x), expected, atol=1e-6, rtol=0)


def test_what_never_asks_is_done_at_its_first_turn_without_a_call_or_harm_to_others() -> None:
    # Given a lane that runs, and two trajectories without a query that fill no row
    model = FakeModel()
    lanes = Lanes(model.denoise, [2])
    neighbour = trajectory(SamplerParameters("ddim", steps=2, strength=1.0))
    tickets: list[Ticket[LatentPair]] = [Ticket(neighbour.turns), Ticket(0), Ticket(0)]
    parameters = SamplerParameters("sdedit", steps=2, strength=1.0)
    for ticket, work in zip(
        tickets, [neighbour, trajectory(parameters), trajectory(parameters)], strict=True
    ):
        lanes.add(work, ticket, 0, None)
    # When all run
    while not lanes.idle:
        lanes.turn()
    # Then the network was called for the one that asks only
    assert [ticket.progress for ticket in tickets] == [(2, 2), (0, 0), (0, 0)]
    assert len(model.calls) == 2
    assert tickets[1].result().equal(noised(start_pair(), parameters))
    assert tickets[2].result().equal(tickets[1].result())
    alone = Lanes(FakeModel().denoise, [2])
    expected: Ticket[LatentPair] = Ticket()
    alone.add(trajectory(SamplerParameters("ddim", steps=2, strength=1.0)), expected, 0, None)
    while not alone.idle:
        alone.turn()
    assert tickets[0].result().equal(expected.result())


def test_work_without_a_query_alone_leaves_the_lanes_idle() -> None:
    model = FakeModel()
    lanes = Lanes(model.denoise, [2])
    work = trajectory(SamplerParameters("sdedit"))
    ticket: Ticket[LatentPair] = Ticket(work.turns)
    lanes.add(work, ticket, 0, None)
    lanes.turn()
    assert ticket.done
    assert lanes.idle
    assert (model.calls, ticket.progress) == ([], (0, 0))
