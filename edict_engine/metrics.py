"""How far apart two images are."""

import math

import torch
from torch import Tensor


def mse(a: Tensor, b: Tensor) -> float:
    """Return the mean of (a - b)² over all elements, computed in float64.

    On pixels in [-1, 1] this is the paper's measure. Raises ``ValueError`` if the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"cannot compare shapes {tuple(a.shape)} and {tuple(b.shape)}")
    return torch.mean((a.to(torch.float64) - b.to(torch.float64)) ** 2).item()


def psnr(a: Tensor, b: Tensor, peak: float = 2.0) -> float:
    """Return 10 · log10(peak² / mse) in dB; ``math.inf`` for equal images.

    ``peak`` is the width of the value range: 2 for pixels in [-1, 1], 255 for uint8.
    """
    error = mse(a, b)
    return math.inf if error == 0 else 10 * math.log10(peak * peak / error)
