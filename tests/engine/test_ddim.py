"""DDIM, conditional and unconditional, against the textbook; its error is the textbook's too."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edict_engine.engine import Engine
from edict_engine.fixed_point import to_float
from edict_engine.parameters import SamplerParameters
from edict_engine.samplers import get_sampler

from .conftest import (
    SCHEDULE,
    FakeModel,
    drive,
    fake_guidance,
    fake_noise,
    start_pair,
    trajectory,
)
from .textbook import ddim_generate, ddim_invert

DDIM = get_sampler("ddim")


@pytest.mark.parametrize(("scale", "prompt"), [(1.0, 0.0), (7.0, 1.0)], ids=["DDIM-UC", "DDIM-C"])
@pytest.mark.parametrize(("steps", "strength"), [(1, 1.0), (7, 0.5), (50, 1.0)])
def test_ddim_agrees_with_the_papers_step_in_both_directions(
    steps: int, strength: float, scale: float, prompt: float
) -> None:
    def guided(latent: Tensor, timestep: float) -> Tensor:
        uncond, cond = (fake_noise(latent, timestep) + 0.1 * value for value in (0.0, prompt))
        return uncond + scale * (cond - uncond)

    parameters = SamplerParameters("ddim", steps, strength, scale)
    guidance, start = fake_guidance(scale, prompt), start_pair()
    grid = SCHEDULE.grid(steps, strength)
    timesteps = [int(step.timestep) for step in grid]
    clean, noisy = SCHEDULE.image_scale, grid[0].scale_from

    with Engine(FakeModel()) as engine:
        up, down = (
            engine.submit(trajectory(parameters, start, direction=way, guidance=guidance)).result()
            for way in ("invert", "generate")
        )

    expected = ddim_invert(clean * to_float(start.x), timesteps, guided)
    torch.testing.assert_close(noisy * to_float(up.x), expected, atol=1e-6, rtol=0)
    expected = ddim_generate(noisy * to_float(start.x), timesteps, guided)
    torch.testing.assert_close(clean * to_float(down.x), expected, atol=1e-6, rtol=0)


@settings(deadline=None)
@given(steps=st.integers(1, 30), strength=st.floats(0.1, 1.0), seed=st.integers(0, 99))
def test_the_round_trip_errs_as_the_textbooks_does_and_not_by_more(
    steps: int, strength: float, seed: int
) -> None:
    parameters = SamplerParameters("ddim", steps, max(strength, 1 / steps))
    grid, start = SCHEDULE.grid(steps, parameters.strength), start_pair(seed)
    timesteps = [int(step.timestep) for step in grid]

    noise = drive(DDIM.invert(start, grid, parameters), fake_noise)
    back = drive(DDIM.generate(noise, grid, parameters), fake_noise)

    x = SCHEDULE.image_scale * to_float(start.x)
    theirs = ddim_generate(ddim_invert(x, timesteps, fake_noise), timesteps, fake_noise)
    ours = SCHEDULE.image_scale * to_float(back.x)
    torch.testing.assert_close(ours - x, theirs - x, atol=1e-6, rtol=0)
    # A grid of one step is the level of the image itself, where nothing is added.
    assert len(grid) == 1 or not back.equal(start)
