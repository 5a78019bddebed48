"""Image distances."""

import math

import pytest
import torch
from torchmetrics.functional import mean_squared_error
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from edict_engine.metrics import mse, psnr, ssim


def test_mse_is_the_mean_of_squares() -> None:
    assert mse(torch.tensor([0.0, 1.0]), torch.tensor([0.5, -1.0])) == pytest.approx(4.25 / 2)


def test_bytes_are_subtracted_without_wrapping_around() -> None:
    assert (
        mse(torch.tensor([0], dtype=torch.uint8), torch.tensor([255], dtype=torch.uint8)) == 65025
    )


def test_psnr_of_a_hundredth_of_the_range_is_forty_decibels() -> None:
    assert psnr(torch.zeros(3), torch.full((3,), 0.02)) == pytest.approx(40)
    assert psnr(torch.zeros(3), torch.full((3,), 2.55), peak=255) == pytest.approx(40)


def test_mse_and_psnr_are_those_of_torchmetrics() -> None:
    one, other = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert mse(one, other) == pytest.approx(mean_squared_error(one, other).item())
    expected = peak_signal_noise_ratio(one[None], other[None], data_range=2.0)
    assert psnr(one, other) == pytest.approx(expected.item(), abs=1e-4)


def test_equal_images_have_infinite_psnr() -> None:
    assert psnr(torch.ones(3), torch.ones(3)) == math.inf


def test_images_of_different_sizes_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match=r"\(3,\) and \(1,\)"):
        mse(torch.zeros(3), torch.zeros(1))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (32, 32), (17, 40)])
def test_structural_similarity_is_that_of_torchmetrics(height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(height)
    one = torch.rand(3, height, width, generator=generator) * 2 - 1
    other = (one + 0.3 * torch.randn(3, height, width, generator=generator)).clamp(-1, 1)
    expected = structural_similarity_index_measure(one[None], other[None], data_range=2.0)
    assert isinstance(expected, torch.Tensor)
    assert ssim(one, other) == pytest.approx(expected.item(), abs=1e-5)
    assert 0.1 < ssim(one, other) < 0.99


def test_structural_similarity_of_flat_images_is_that_of_their_means() -> None:
    # (2ab + c) / (a² + b² + c) with c = (0.01 · 2)², without any variance
    one, other = torch.full((3, 32, 32), 0.5), torch.full((3, 32, 32), 0.25)
    expected = (2 * 0.5 * 0.25 + 4e-4) / (0.5**2 + 0.25**2 + 4e-4)
    assert ssim(one, other) == pytest.approx(expected, abs=1e-9)
    assert ssim(one, one) == 1
