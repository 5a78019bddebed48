"""DDIM as its paper has it (Song et al., 2021): float64, no chart, no integers.

``alpha`` are alphas_cumprod. ``timesteps`` descend, and the last level leads to that of timestep 0.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor

from .conftest import SCHEDULE

Network = Callable[[Tensor, float], Tensor]


def ddim_update(x: Tensor, noise: Tensor, alpha: float, alpha_to: float) -> Tensor:
    """The DDIM step of ``x`` from one level to any other."""
    clean = (x - math.sqrt(1 - alpha) * noise) / math.sqrt(alpha)
    return math.sqrt(alpha_to) * clean + math.sqrt(1 - alpha_to) * noise


def ddim_generate(x: Tensor, timesteps: Sequence[int], network: Network) -> Tensor:
    """From noise to image."""
    for timestep, (alpha, alpha_to) in zip(timesteps, pairwise(_levels(timesteps)), strict=True):
        x = ddim_update(x, network(x, timestep), alpha, alpha_to)
    return x


def ddim_invert(x: Tensor, timesteps: Sequence[int], network: Network) -> Tensor:
    """From image to noise: each step takes the noise that is seen where it starts."""
    steps = list(zip(timesteps, pairwise(_levels(timesteps)), strict=True))
    for timestep, (alpha_to, alpha) in reversed(steps):
        x = ddim_update(x, network(x, timestep), alpha, alpha_to)
    return x


def _levels(timesteps: Sequence[int]) -> list[float]:
    return [SCHEDULE.alphas_cumprod[timestep] for timestep in (*timesteps, 0)]
