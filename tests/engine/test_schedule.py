"""The noise schedule and its grid."""

import math
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given
from hypothesis import strategies as st

from edict_engine.errors import ModelNotUsable, ParameterError
from edict_engine.schedule import NoiseSchedule

from .conftest import SCHEDULE

STABLE_DIFFUSION = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


@pytest.mark.parametrize(
    "config",
    [
        STABLE_DIFFUSION,
        {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.009},
        {"trained_betas": [0.001, 0.002, 0.004]},
    ],
)
def test_alphas_agree_with_diffusers_to_its_single_precision(config: dict[str, Any]) -> None:
    ours = NoiseSchedule.from_config(config).alphas_cumprod
    scheduler: Any = DDIMScheduler
    theirs = scheduler.from_config(config).alphas_cumprod
    assert torch.tensor(ours) == pytest.approx(theirs, rel=1e-4)


def test_the_grid_starts_at_most_noise_and_ends_at_timestep_zero_without_offset() -> None:
    timesteps = [step.timestep for step in SCHEDULE.grid(50)]
    assert timesteps == list(range(980, -1, -20))


def test_strength_keeps_the_last_steps_and_counts_positions_from_the_first_kept() -> None:
    grid = SCHEDULE.grid(50, 0.8)
    assert [step.timestep for step in grid] == list(range(780, -1, -20))
    assert [step.position for step in grid] == list(range(40))


def test_a_product_that_misses_an_integer_by_float_error_keeps_that_many_steps() -> None:
    assert 0.29 * 100 < 29
    assert len(SCHEDULE.grid(100, 0.29)) == 29


def test_the_last_step_adds_nothing() -> None:
    last = SCHEDULE.grid(10)[-1]
    assert (last.timestep, last.delta) == (0, 0.0)
    assert last.scale_to == SCHEDULE.image_scale


@given(
    steps=st.integers(1, 1000), x=st.floats(-5, 5), noise=st.floats(-5, 5), where=st.floats(0, 1)
)
def test_adding_in_the_chart_is_the_textbook_ddim_step(
    steps: int, x: float, noise: float, where: float
) -> None:
    grid = SCHEDULE.grid(steps)
    step = grid[min(int(where * steps), steps - 1)]
    a, b = step.scale_from, step.scale_to
    textbook = b * (x - math.sqrt(1 - a * a) * noise) / a + math.sqrt(1 - b * b) * noise
    assert step.scale_to * (x / step.scale_from + step.delta * noise) == pytest.approx(
        textbook, abs=1e-9
    )


def test_a_strength_that_keeps_no_step_is_refused_with_the_least_that_does() -> None:
    with pytest.raises(ParameterError, match=r"strength 0\.05 keeps no step of 10.*at least 0\.1"):
        SCHEDULE.grid(10, 0.05)


def test_more_steps_than_the_model_was_trained_with_are_refused() -> None:
    short = NoiseSchedule.from_config(STABLE_DIFFUSION | {"num_train_timesteps": 100})
    with pytest.raises(ParameterError, match="steps is 101: the model was trained with 100"):
        short.grid(101)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction_type": "sample"}, "'sample'"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "of flow matching"),
        ({"beta_schedule": "sigmoid"}, "'sigmoid'"),
        ({"rescale_betas_zero_snr": True}, "zero signal"),
        ({"beta_end": 0.1}, "zero signal"),
    ],
)
def test_a_schedule_that_is_not_covered_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelNotUsable, match=message):
        NoiseSchedule.from_config(STABLE_DIFFUSION | change)


def test_the_description_holds_what_reading_the_latents_takes() -> None:
    grid = SCHEDULE.grid(4, 0.5)
    description = SCHEDULE.describe(grid)
    assert description["timesteps"] == [250, 0]
    assert description["noise_scale"] == math.sqrt(SCHEDULE.alphas_cumprod[250])
    other = NoiseSchedule.from_config(STABLE_DIFFUSION | {"beta_end": 0.0121})
    assert other.digest != SCHEDULE.digest == description["alphas_cumprod_sha256"]
