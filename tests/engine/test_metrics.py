"""Image distances."""

import math

import pytest
import torch

from edict_engine.metrics import mse, psnr


def test_mse_is_the_mean_of_squares() -> None:
    assert mse(torch.tensor([0.0, 1.0]), torch.tensor([0.5, -1.0])) == pytest.approx(4.25 / 2)


def test_bytes_are_subtracted_without_wrapping_around() -> None:
    assert (
        mse(torch.tensor([0], dtype=torch.uint8), torch.tensor([255], dtype=torch.uint8)) == 65025
    )


def test_psnr_of_a_hundredth_of_the_range_is_forty_decibels() -> None:
    assert psnr(torch.zeros(3), torch.full((3,), 0.02)) == pytest.approx(40)
    assert psnr(torch.zeros(3), torch.full((3,), 2.55), peak=255) == pytest.approx(40)


def test_equal_images_have_infinite_psnr() -> None:
    assert psnr(torch.ones(3), torch.ones(3)) == math.inf


def test_images_of_different_sizes_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match=r"\(3,\) and \(1,\)"):
        mse(torch.zeros(3), torch.zeros(1))
