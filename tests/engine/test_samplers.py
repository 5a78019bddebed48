"""Samplers against an independent float64 formulation, and exact against any network."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edict_engine.errors import ParameterError
from edict_engine.fixed_point import LatentPair, to_float
from edict_engine.parameters import SamplerParameters
from edict_engine.samplers import SAMPLERS, get_sampler

from .conftest import SCHEDULE, TURNS, drive, fake_noise, hostile_noise, start_pair


def textbook_edict(
    x: Tensor, y: Tensor, timesteps: list[int], p: float, *, inverting: bool, alternate: bool
) -> tuple[Tensor, Tensor]:
    """The paper's equations 14 and 15 in its own variables, float64, no chart and no integers.

    ``timesteps`` descend. x_{t-1} = a_t · x_t + b_t · ε(y_t, t), and so on.
    """
    alphas = [SCHEDULE.alphas_cumprod[timestep] for timestep in timesteps]
    below = [*alphas[1:], SCHEDULE.alphas_cumprod[0]]
    pair = [x, y]
    order = list(enumerate(zip(timesteps, alphas, below, strict=True)))
    for position, (timestep, alpha, alpha_below) in reversed(order) if inverting else order:
        a = math.sqrt(alpha_below / alpha)
        b = math.sqrt(1 - alpha_below) - math.sqrt(alpha_below * (1 - alpha) / alpha)
        movers = [position % 2, 1 - position % 2] if alternate else [0, 1]
        if inverting:
            pair[1] = (pair[1] - (1 - p) * pair[0]) / p
            pair[0] = (pair[0] - (1 - p) * pair[1]) / p
            for mover in reversed(movers):
                pair[mover] = (pair[mover] - b * fake_noise(pair[1 - mover], timestep)) / a
        else:
            for mover in movers:
                pair[mover] = a * pair[mover] + b * fake_noise(pair[1 - mover], timestep)
            pair[0] = p * pair[0] + (1 - p) * pair[1]
            pair[1] = p * pair[1] + (1 - p) * pair[0]
    return pair[0], pair[1]


@pytest.mark.parametrize("alternate", [True, False])
@pytest.mark.parametrize(
    ("steps", "strength"), [(1, 1.0), (2, 0.5), (2, 1.0), (7, 0.5), (7, 1.0), (20, 0.8)]
)
def test_edict_agrees_with_the_papers_equations(
    steps: int, strength: float, *, alternate: bool
) -> None:
    parameters = SamplerParameters(steps=steps, strength=strength, mix=0.93, alternate=alternate)
    grid = SCHEDULE.grid(steps, strength)
    timesteps = [step.timestep for step in grid]
    start = start_pair()

    inverted = drive(get_sampler("edict").invert(start, grid, parameters), fake_noise)
    x0 = SCHEDULE.image_scale * to_float(start.x)
    x, y = textbook_edict(x0, x0, timesteps, 0.93, inverting=True, alternate=alternate)
    torch.testing.assert_close(grid[0].scale_from * to_float(inverted.x), x, atol=1e-6, rtol=0)
    torch.testing.assert_close(grid[0].scale_from * to_float(inverted.y), y, atol=1e-6, rtol=0)

    generated = drive(get_sampler("edict").generate(start, grid, parameters), fake_noise)
    x0 = grid[0].scale_from * to_float(start.x)
    x, y = textbook_edict(x0, x0, timesteps, 0.93, inverting=False, alternate=alternate)
    torch.testing.assert_close(SCHEDULE.image_scale * to_float(generated.x), x, atol=1e-6, rtol=0)
    torch.testing.assert_close(SCHEDULE.image_scale * to_float(generated.y), y, atol=1e-6, rtol=0)


@settings(deadline=None)
@given(
    steps=st.integers(1, 12),
    strength=st.floats(0.1, 1.0),
    mix=st.integers(5_000, 10_000).map(lambda parts: parts / 10_000),
    seed=st.integers(0, 99),
    alternate=st.booleans(),
)
def test_edict_returns_to_the_very_same_integers_whatever_the_network_says(
    steps: int, strength: float, mix: float, seed: int, *, alternate: bool
) -> None:
    parameters = SamplerParameters(
        steps=steps, strength=max(strength, 1 / steps), mix=mix, alternate=alternate
    )
    grid = SCHEDULE.grid(parameters.steps, parameters.strength)
    start, edict = start_pair(seed), get_sampler("edict")
    inverted = drive(edict.invert(start, grid, parameters), hostile_noise)
    assert drive(edict.generate(inverted, grid, parameters), hostile_noise).equal(start)


def test_ddim_is_only_nearly_its_own_inverse() -> None:
    parameters = SamplerParameters("ddim", steps=50, strength=1.0)
    grid = SCHEDULE.grid(50)
    start, ddim = start_pair(), get_sampler("ddim")
    inverted = drive(ddim.invert(start, grid, parameters), fake_noise)
    back = drive(ddim.generate(inverted, grid, parameters), fake_noise)
    error = to_float(back.x - start.x).abs().max().item()
    assert 1e-4 < error < 1
    assert not ddim.exact


@pytest.mark.parametrize("name", sorted(SAMPLERS))
@pytest.mark.parametrize("direction", ["invert", "generate"])
def test_a_sampler_asks_as_often_as_it_says(name: str, direction: str) -> None:
    asked = []

    def counting(latent: Tensor, timestep: int) -> Tensor:
        asked.append(timestep)
        return latent

    sampler, grid = get_sampler(name), SCHEDULE.grid(5)
    drive(getattr(sampler, direction)(start_pair(), grid, SamplerParameters(steps=5)), counting)
    assert len(asked) == getattr(sampler, TURNS[direction])(grid)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_after_each_step_a_generation_goes_on_with_what_the_caller_makes_of_the_pair(
    name: str,
) -> None:
    grid, parameters, other = SCHEDULE.grid(4), SamplerParameters(steps=4), start_pair(9)
    seen: list[int] = []
    asked: list[Tensor] = []

    def exchange(position: int, _: LatentPair) -> LatentPair:
        seen.append(position)
        return other

    def network(latent: Tensor, timestep: float) -> Tensor:
        asked.append(latent)
        return fake_noise(latent, timestep)

    generation = get_sampler(name).generate(start_pair(), grid, parameters, exchange)
    end = drive(generation, network)
    assert seen == [0, 1, 2, 3]
    assert end.equal(other)
    last_steps_first = asked[-get_sampler(name).calls_per_step]
    assert torch.equal(last_steps_first, grid[-1].scale_from * to_float(other.x))


def test_the_samplers_cost_what_their_papers_say() -> None:
    grid = SCHEDULE.grid(5)
    turns = {
        name: (sampler.inversion_turns(grid), sampler.generation_turns(grid))
        for name, sampler in SAMPLERS.items()
    }
    assert turns == {
        "edict": (10, 10),
        "ddim": (5, 5),
        "bdia": (5, 5),
        "o-belm": (5, 5),
        "sdedit": (0, 5),
    }


def test_only_what_is_bit_exact_for_every_network_claims_it() -> None:
    assert {name for name, sampler in SAMPLERS.items() if sampler.exact} == {"edict", "bdia"}


def test_an_unknown_sampler_is_refused_with_the_choices() -> None:
    choices = r"\['bdia', 'ddim', 'edict', 'o-belm', 'sdedit'\]"
    with pytest.raises(ParameterError, match=rf"'euler'.*{choices}"):
        get_sampler("euler")
