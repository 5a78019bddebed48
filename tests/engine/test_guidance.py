"""Classifier-free guidance."""

from dataclasses import replace

import pytest
import torch

from .conftest import fake_guidance


def test_the_conditional_answer_is_followed_beyond_the_unconditional_one() -> None:
    uncond, cond = torch.randn(2, 4, 2, 2, dtype=torch.float64)
    guided = fake_guidance(7.5).combine(torch.stack([uncond, cond]), 500)
    assert torch.equal(guided, uncond + 7.5 * (cond - uncond))


def test_at_scale_one_only_the_prompt_is_evaluated() -> None:
    guidance = fake_guidance(1.0, value=5.0)
    assert guidance.rows == len(guidance.contexts.hidden) == 1
    assert torch.equal(guidance.contexts.hidden[0], guidance.cond.hidden)


def test_at_scale_zero_the_prompt_is_ignored() -> None:
    outputs = torch.randn(2, 4, 2, 2, dtype=torch.float64)
    assert torch.equal(fake_guidance(0.0).combine(outputs, 500), outputs[0])


def test_outside_its_interval_there_is_no_guidance() -> None:
    outputs = torch.randn(2, 4, 2, 2, dtype=torch.float64)
    guidance = replace(fake_guidance(7.5), interval=(200, 800))
    for timestep in (0, 199, 801, 999):
        assert torch.equal(guidance.combine(outputs, timestep), outputs[1])
    for timestep in (200, 500, 800):
        assert torch.equal(guidance.combine(outputs, timestep), guided(outputs, 7.5))


@pytest.mark.parametrize("rescale", [0.0, 0.3, 1.0])
def test_rescaling_brings_the_spread_back_to_that_of_the_prompts_own_answer(rescale: float) -> None:
    # arXiv 2305.08891, equations 15 and 16, written with variances
    outputs = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    plain = guided(outputs, 7.5)
    ratio = (outputs[1].var() / plain.var()) ** 0.5
    made = replace(fake_guidance(7.5), rescale=rescale).combine(outputs, 500)
    assert torch.allclose(made, (rescale * ratio + 1 - rescale) * plain)


def guided(outputs: torch.Tensor, scale: float) -> torch.Tensor:
    uncond, cond = outputs
    return uncond + scale * (cond - uncond)
