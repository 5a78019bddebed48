"""Classifier-free guidance."""

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
