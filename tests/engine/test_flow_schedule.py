"""Flow matching's levels, and every sampler on them against the flow's own equations in float64."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from edict_engine.errors import ModelNotUsable, ParameterError
from edict_engine.fixed_point import LIMIT, LatentPair, to_float
from edict_engine.flow_schedule import FlowSchedule
from edict_engine.parameters import SamplerParameters
from edict_engine.samplers import get_sampler

from .conftest import drive, fake_noise, hostile_noise, start_pair

SD3 = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
FLOW = FlowSchedule.from_config(SD3)
STRAIGHT = FlowSchedule(shift=1.0)


def sigmas(steps: int, kept: int, shift: float = 3.0) -> list[float]:
    """The levels from the noisiest to the image, the last two the same."""
    times = [index / steps for index in reversed(range(kept))]
    return [*(shift * u / (1 + (shift - 1) * u) for u in times), 0.0]


def velocity(x: Tensor, sigma: float) -> Tensor:
    return fake_noise(x, 1000 * sigma)


def euler(x: Tensor, levels: list[float]) -> Tensor:
    for here, there in pairwise(levels):
        x = x + (there - here) * velocity(x, here)
    return x


def coupled(x: Tensor, levels: list[float], p: float) -> tuple[Tensor, Tensor]:
    """EDICT's equation 14 with Euler's step in the place of DDIM's."""
    pair = [x, x]
    for position, (here, there) in enumerate(pairwise(levels)):
        for mover in (position % 2, 1 - position % 2):
            pair[mover] = pair[mover] + (there - here) * velocity(pair[1 - mover], here)
        pair[0] = p * pair[0] + (1 - p) * pair[1]
        pair[1] = p * pair[1] + (1 - p) * pair[0]
    return pair[0], pair[1]


def two_levels(x: Tensor, levels: list[float], weight: Callable[[float, float], float]) -> Tensor:
    """BDIA and O-BELM: the integral over the last interval once more, times a weight."""
    above, sigma_above = x, levels[0]
    for here, there in pairwise(levels):
        v, w = velocity(x, here), weight(here - there, sigma_above - here)
        back = above - (x + (sigma_above - here) * v)
        x, above, sigma_above = w * back + x + (there - here) * v, x, here
    return x


def generated(name: str, schedule: FlowSchedule = FLOW, **options: Any) -> tuple[Tensor, Tensor]:
    """What a sampler generates, and the latent that it started from; 8 of 10 steps."""
    parameters = SamplerParameters(name, steps=10, strength=0.8, **options)
    start = start_pair()
    coroutine = get_sampler(name).generate(start, schedule.grid(10, 0.8), parameters)
    return to_float(drive(coroutine, fake_noise).x), to_float(start.x)


def round_trip(
    parameters: SamplerParameters,
    schedule: FlowSchedule,
    start: LatentPair,
    network: Callable[[Tensor, float], Tensor],
) -> tuple[LatentPair, LatentPair]:
    sampler, grid = get_sampler(parameters.sampler), schedule.grid(parameters.steps)
    inverted = drive(sampler.invert(start, grid, parameters), network)
    return inverted, drive(sampler.generate(inverted, grid, parameters), network)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_levels_and_timesteps_are_those_of_diffusers_for_the_same_times(shift: float) -> None:
    kind: Any = FlowMatchEulerDiscreteScheduler
    theirs = kind.from_config(SD3 | {"shift": shift})
    theirs.set_timesteps(sigmas=[index / 28 for index in reversed(range(28))])
    grid = FlowSchedule.from_config(SD3 | {"shift": shift}).grid(28)
    assert [step.timestep for step in grid] == pytest.approx(theirs.timesteps.tolist(), rel=1e-5)
    deltas = theirs.sigmas.diff().tolist()
    assert [step.delta for step in grid] == pytest.approx(deltas, abs=1e-6)


def test_a_velocity_is_one_in_the_image_to_noise_direction() -> None:
    # Given the exact velocity of one image and one noise, Euler's steps lead back to the image.
    image, noise = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    step = FLOW.grid(10)[0]
    x = step.signal * image + step.noise * noise
    for each in FLOW.grid(10):
        x = x + each.delta * (noise - image)
    torch.testing.assert_close(x, image)


def test_strength_keeps_the_cleanest_steps_and_the_last_adds_nothing() -> None:
    grid = FLOW.grid(50, 0.5)
    assert (len(grid), grid[0].noise) == (25, pytest.approx(3 * 0.48 / (1 + 2 * 0.48)))
    assert [step.position for step in grid] == list(range(25))
    assert (grid[-1].timestep, grid[-1].delta, grid[-1].signal) == (0.0, 0.0, 1.0)
    with pytest.raises(ParameterError, match=r"strength 0\.01 keeps no step of 50"):
        FLOW.grid(50, 0.01)


def test_ddim_on_a_flow_is_eulers_method() -> None:
    ours, start = generated("ddim")
    torch.testing.assert_close(ours, euler(start, sigmas(10, 8)), atol=1e-7, rtol=0)


def test_edict_on_a_flow_is_the_papers_coupling_of_eulers_steps() -> None:
    ours, start = generated("edict", mix=0.9)
    torch.testing.assert_close(ours, coupled(start, sigmas(10, 8), 0.9)[0], atol=1e-6, rtol=0)


def test_bdia_on_a_flow_takes_the_last_interval_once_more() -> None:
    ours, start = generated("bdia", gamma=0.9)
    theirs = two_levels(start, sigmas(10, 8), lambda *_: 0.9)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("schedule", [STRAIGHT, FLOW], ids=["straight", "shifted"])
def test_o_belm_on_a_flow_weighs_by_the_ratio_of_the_intervals(schedule: FlowSchedule) -> None:
    def weight(h: float, h_above: float) -> float:
        return (h / h_above) ** 2 if h and h_above else 1.0

    # The last step, of no size, only makes the image once more.
    ours, start = generated("o-belm", schedule)
    theirs = two_levels(start, sigmas(10, 8, schedule.shift)[:-1], weight)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_sdedit_on_a_flow_goes_along_the_line_to_the_noise() -> None:
    start, parameters = start_pair(), SamplerParameters("sdedit", steps=10, seed=5)
    noisy = drive(get_sampler("sdedit").invert(start, FLOW.grid(10, 0.8), parameters), fake_noise)
    noise = torch.randn(
        start.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64
    )
    sigma = sigmas(10, 8)[0]
    expected = (1 - sigma) * to_float(start.x) + sigma * noise
    torch.testing.assert_close(to_float(noisy.x), expected, atol=1e-9, rtol=0)


@settings(deadline=None, max_examples=30)
@given(
    name=st.sampled_from(["edict", "bdia"]),
    steps=st.integers(1, 12),
    shift=st.sampled_from([0.5, 1.0, 3.0, 7.3]),
    weight=st.integers(7_000, 10_000).map(lambda parts: parts / 10_000),
    seed=st.integers(0, 99),
)
def test_the_round_trip_is_the_identity_on_integers_whatever_the_network_says(
    name: str, steps: int, shift: float, weight: float, seed: int
) -> None:
    def network(latent: Tensor, timestep: float) -> Tensor:
        assume(latent.abs().max().item() <= LIMIT)
        return hostile_noise(latent, timestep)

    parameters = SamplerParameters(name, steps=steps, strength=1.0, mix=weight, gamma=weight)
    start = start_pair(seed)
    _, back = round_trip(parameters, FlowSchedule(shift), start, network)
    assert back.equal(start)


def test_o_belm_is_exact_on_levels_of_equal_distance_and_nearly_so_on_shifted_ones() -> None:
    parameters, start = SamplerParameters("o-belm", steps=20), start_pair()
    inverted, back = round_trip(parameters, STRAIGHT, start, fake_noise)
    assert back.equal(start)
    assert not inverted.equal(start)
    _, back = round_trip(parameters, FLOW, start, fake_noise)
    assert to_float(back.x - start.x).abs().max().item() < 1e-6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "DDIMScheduler"}, "DDIMScheduler .* FlowMatchEuler"),
        ({"use_dynamic_shifting": True}, "use_dynamic_shifting to True"),
        ({"invert_sigmas": True}, "invert_sigmas to True"),
        ({"shift": 0}, "shift is 0"),
        ({"shift": "much"}, "shift is 'much'"),
    ],
)
def test_a_flow_scheduler_that_is_not_covered_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelNotUsable, match=message):
        FlowSchedule.from_config(SD3 | changes)


def test_the_description_holds_what_reading_the_latents_takes() -> None:
    described = FLOW.describe(FLOW.grid(4, 0.5))
    assert (described["prediction"], described["shift"]) == ("flow", 3.0)
    assert described["timesteps"] == [500.0, 0.0]
    assert (described["noise_scale"], described["image_scale"]) == (1.0, 1.0)
