"""BDIA against the paper's equations in their own variables, and exact against any network."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from edict_engine.engine import Engine
from edict_engine.fixed_point import LIMIT, SCALE, LatentPair, times, to_float
from edict_engine.guidance import ClassifierFree
from edict_engine.model import Model
from edict_engine.parameters import SamplerParameters
from edict_engine.samplers import get_sampler
from edict_engine.schedule import MIN_SCALE, Step, noise_to_signal

from .conftest import (
    SCHEDULE,
    drive,
    fake_noise,
    hostile_noise,
    start_pair,
    tiny_model,
    trajectory,
)
from .textbook import ddim_update

GRIDS = [(1, 1.0), (2, 0.5), (2, 1.0), (3, 1.0), (7, 0.5), (20, 0.8), (50, 1.0)]
BDIA = get_sampler("bdia")


class Textbook:
    """The paper's update of x_{i-1} from x_i and x_{i+1}, float64, no chart and no integers.

    ``timesteps`` descend, and γ is that of the chart: the paper's times a_{i-1} / a_{i+1}.
    """

    def __init__(self, timesteps: list[int], gamma: float) -> None:
        levels = [SCHEDULE.alphas_cumprod[timestep] for timestep in timesteps]
        above, below = [levels[0], *levels[:-1]], [*levels[1:], SCHEDULE.alphas_cumprod[0]]
        self._steps = list(zip(timesteps, above, levels, below, strict=True))
        self._gamma = gamma

    def generate(self, x: Tensor, x_above: Tensor) -> tuple[Tensor, Tensor]:
        for timestep, above, here, below in self._steps:
            noise = fake_noise(x, timestep)
            gamma = self._gamma * math.sqrt(below / above)
            back = x_above - ddim_update(x, noise, here, above)
            x, x_above = gamma * back + ddim_update(x, noise, here, below), x
        return x, x_above

    def invert(self, x_below: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        for timestep, above, here, below in reversed(self._steps):
            noise = fake_noise(x, timestep)
            gamma = self._gamma * math.sqrt(below / above)
            rest = (x_below - ddim_update(x, noise, here, below)) / gamma
            x_below, x = x, rest + ddim_update(x, noise, here, above)
        return x_below, x


@pytest.mark.parametrize(("steps", "strength"), GRIDS)
def test_bdia_agrees_with_the_papers_equations(steps: int, strength: float) -> None:
    parameters = SamplerParameters("bdia", steps, strength, gamma=0.9)
    grid = SCHEDULE.grid(steps, strength)
    textbook, start = Textbook([step.timestep for step in grid], 0.9), start_pair()
    clean, noisy = SCHEDULE.image_scale, grid[0].scale_from

    inverted = drive(BDIA.invert(start, grid, parameters), fake_noise)
    x, y = textbook.invert(clean * to_float(start.x), clean * to_float(start.y))
    torch.testing.assert_close(noisy * to_float(inverted.x), x, atol=1e-5, rtol=0)
    torch.testing.assert_close(noisy * to_float(inverted.y), y, atol=1e-5, rtol=0)

    generated = drive(BDIA.generate(start, grid, parameters), fake_noise)
    x, y = textbook.generate(noisy * to_float(start.x), noisy * to_float(start.y))
    torch.testing.assert_close(clean * to_float(generated.x), x, atol=1e-5, rtol=0)
    torch.testing.assert_close(clean * to_float(generated.y), y, atol=1e-5, rtol=0)


def test_with_next_to_no_gamma_bdia_generates_what_ddim_does() -> None:
    grid, start = SCHEDULE.grid(20), start_pair()
    images = {}
    for name, gamma in [("ddim", 1.0), ("bdia", 0.0001), ("bdia", 0.96)]:
        parameters = SamplerParameters(name, steps=20, strength=1.0, gamma=gamma)
        pair = drive(get_sampler(name).generate(start, grid, parameters), fake_noise)
        images[name, gamma] = to_float(pair.x)
    ddim = images["ddim", 1.0]
    assert (images["bdia", 0.0001] - ddim).abs().max() < 1e-3
    assert (images["bdia", 0.96] - ddim).abs().max() > 1e-2


def test_the_first_step_of_an_inversion_and_of_a_generation_is_ddims() -> None:
    grid, parameters, start = SCHEDULE.grid(2), SamplerParameters("bdia", steps=2), start_pair()
    z, delta = to_float(start.x), grid[0].delta

    up = BDIA.invert(start, grid, parameters)
    next(up)
    query = up.send(torch.ones_like(z))
    torch.testing.assert_close(query.latent, grid[0].scale_from * (z - delta))

    down = BDIA.generate(start, grid, parameters)
    next(down)
    query = down.send(torch.ones_like(z))
    torch.testing.assert_close(query.latent, grid[1].scale_from * (z + delta))


@settings(deadline=None, max_examples=60)
@given(
    steps=st.integers(1, 12),
    strength=st.floats(0.1, 1.0),
    gamma=st.integers(5_000, 10_000).map(lambda parts: parts / 10_000),
    size=st.sampled_from([1.0, 10.0, 100.0]),
    seed=st.integers(0, 99),
)
def test_bdia_returns_to_the_very_same_integers_whatever_the_network_says(
    steps: int, strength: float, gamma: float, size: float, seed: int
) -> None:
    def network(latent: Tensor, timestep: float) -> Tensor:
        # Beyond, the engine stops the trajectory.
        assume(latent.abs().max().item() <= LIMIT)
        return hostile_noise(latent, timestep, size)

    parameters = SamplerParameters("bdia", steps, max(strength, 1 / steps), gamma=gamma)
    grid = SCHEDULE.grid(parameters.steps, parameters.strength)
    start = start_pair(seed)
    inverted = drive(BDIA.invert(start, grid, parameters), network)
    assert drive(BDIA.generate(inverted, grid, parameters), network).equal(start)


@given(
    value=st.integers(-(3 * 2**46), 3 * 2**46),
    gamma=st.integers(1, 10_000).map(lambda parts: Fraction(parts, 10_000)),
)
def test_what_every_gamma_expanded_it_contracts_to_the_same_inside_int64(
    value: int, gamma: Fraction
) -> None:
    expanded = times(torch.tensor(value), 1 / gamma)
    # The same in Python's unbounded integers: any overflow would differ.
    assert expanded.item() == (2 * value / gamma + 1) // 2
    assert times(expanded, gamma).item() == value


def test_the_largest_values_that_the_engine_lets_pass_stay_inside_int64() -> None:
    # Given members of opposite sign and noise at the limit, the noisiest level, the least gamma
    step = Step(999, MIN_SCALE, 1.0, -noise_to_signal(MIN_SCALE), 0, 1.0, 0.0)
    parameters = SamplerParameters("bdia", gamma=0.0001)
    largest = torch.full((4, 2, 2), int(LIMIT / MIN_SCALE * SCALE))
    start = LatentPair(largest, -largest)

    def network(latent: Tensor, _: float) -> Tensor:
        return torch.full_like(latent, LIMIT)

    # When they go up a step, then they have grown as far as they can and still come back
    inverted = drive(BDIA.invert(start, [step], parameters), network)
    assert inverted.y.min().item() > 2**60
    assert drive(BDIA.generate(inverted, [step], parameters), network).equal(start)


def round_trip(model: Model, parameters: SamplerParameters, start: LatentPair) -> list[LatentPair]:
    """Where an inversion on a real network leads, and where the generation from there does."""
    guidance = ClassifierFree(model.embed(""), model.embed("a dog"), parameters.guidance)
    with Engine(model, rungs=(2,)) as engine:
        inverted = engine.submit(trajectory(parameters, start, guidance=guidance)).result()
        down = trajectory(parameters, inverted, direction="generate", guidance=guidance)
        return [inverted, engine.submit(down).result()]


@pytest.mark.parametrize("gamma", [1.0, 0.96, 0.5])
def test_a_round_trip_on_a_real_network_is_the_identity_on_integers(
    model: Model, gamma: float
) -> None:
    start = start_pair(3)
    inverted, back = round_trip(model, SamplerParameters("bdia", 7, 0.9, gamma=gamma), start)
    assert not inverted.equal(start)
    assert back.equal(start)


@pytest.mark.slow
@settings(deadline=None, max_examples=4)
@given(
    steps=st.integers(1, 5),
    gamma=st.sampled_from([1.0, 0.96, 0.7]),
    seed=st.integers(0, 99),
)
def test_so_it_is_on_a_network_in_bfloat16(steps: int, gamma: float, seed: int) -> None:
    network, start = tiny_model(torch.bfloat16), start_pair(seed)
    parameters = SamplerParameters("bdia", steps, 1.0, gamma=gamma)
    inverted, back = round_trip(network, parameters, start)
    assert steps == 1 or not inverted.equal(start)
    assert back.equal(start)
