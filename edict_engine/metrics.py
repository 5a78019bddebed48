"""How far apart two images are."""

import math

import torch
from torch import Tensor
from torch.nn import functional

#: Of SSIM, as its authors have them: the window's width in pixels and its standard deviation.
_WINDOW, _SIGMA = 11, 1.5


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


def ssim(a: Tensor, b: Tensor, peak: float = 2.0) -> float:
    """Return the mean structural similarity (Wang et al., 2004): 1 for equal images.

    ``a`` and ``b`` are (C, H, W) with H and W of at least 6. The Gaussian window (11 pixels, σ 1.5)
    is laid on every pixel of the images mirrored at their edges, in float64. Written here, because
    the library that has it (torchmetrics) takes a worker two seconds to import. Raises
    ``ValueError`` if the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"cannot compare shapes {tuple(a.shape)} and {tuple(b.shape)}")
    x, y = a.to(torch.float64), b.to(torch.float64)
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = _blurred(torch.stack([x, y, x * x, y * y, x * y]))
    steady, steady_spread = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    alike = (2 * mean_x * mean_y + steady) * (2 * (mean_xy - mean_x * mean_y) + steady_spread)
    spread = (mean_xx - mean_x**2) + (mean_yy - mean_y**2)
    return torch.mean(alike / ((mean_x**2 + mean_y**2 + steady) * (spread + steady_spread))).item()


def _blurred(images: Tensor) -> Tensor:
    """Weigh the surroundings of each pixel with SSIM's window: (N, C, H, W), as they came."""
    offsets = torch.arange(_WINDOW, dtype=images.dtype, device=images.device) - _WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
    weights = weights / weights.sum()
    mirrored = functional.pad(images.flatten(0, 1)[:, None], [_WINDOW // 2] * 4, mode="reflect")
    down = functional.conv2d(mirrored, weights[None, None, :, None])
    return functional.conv2d(down, weights[None, None, None, :]).reshape(images.shape)
