"""Looks at an edit while it runs: what the network believes the clean image to be.

A look costs the device thread a reference to tensors that are there anyway, and changes no bit of
the result. What follows is done elsewhere: the latent that would come out if the noise stayed as
the network sees it now is turned into colours by a linear map, one small picture pixel for each of
its cells. The map is fitted to the model's own VAE, so it needs no table of models and no decoding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from edict_engine.images import to_image
from edict_engine.samplers import Coroutine
from edict_engine.schedule import Step

T = TypeVar("T")

#: Random colours that vary smoothly stand for all images: cells along a side, and how many images.
CELLS = 16
IMAGES = 4
#: Coarseness of the colours, from flat to busy.
KNOTS = (2, 3, 5, 8)
#: Keeps channels that tell nothing of colour from being amplified.
RIDGE = 1e-4


@dataclass(frozen=True)
class Glance:
    """One question to the network and its answer: x_t and ε, (C, h, w), at a step's begin."""

    latent: Tensor
    noise: Tensor
    position: int

    def clean(self, grid: Sequence[Step]) -> Tensor:
        """Where the trajectory ends if the noise stays this, z in the chart of ``schedule``."""
        remaining = sum(step.delta for step in grid[self.position :])
        return self.latent / grid[self.position].scale_from + remaining * self.noise


Look = Callable[[Glance], None]


def watched(coroutine: Coroutine[T], look: Look) -> Coroutine[T]:
    """Run ``coroutine`` as it is, and show each step's first question with its answer.

    ``look`` is called on the device thread and must return at once.
    """
    query, shown = next(coroutine), -1
    while True:
        noise = yield query
        if query.position != shown:
            shown = query.position
            look(Glance(query.latent, noise, query.position))
        try:
            query = coroutine.send(noise)
        except StopIteration as end:
            value: T = end.value
            return value


class Projection:
    """A linear map from a scaled latent's channels to RGB.

    ``weights``: float64 (C + 1, 3), the last row is the offset; pixels are in [-1, 1].
    """

    def __init__(self, weights: Tensor) -> None:
        self._weights = weights

    @classmethod
    def fit(
        cls, encode: Callable[[Tensor], Tensor], vae_factor: int, *, multiple: int = 1
    ) -> "Projection":
        """Fit to ``encode``, which takes pixels (3, H, W) to latents (C, h, w); least squares.

        Sides are multiples of ``multiple`` cells. The same model gives the same map.
        """
        side = -(-CELLS // multiple) * multiple
        rows, colours = [], []
        for index in range(IMAGES):
            pixels = _colours(side * vae_factor, KNOTS[index % len(KNOTS)], seed=index)
            latent = encode(pixels).to("cpu", torch.float64)
            rows.append(_with_one(latent))
            colours.append(functional.avg_pool2d(pixels, vae_factor).flatten(1).T)
        known, wished = torch.cat(rows), torch.cat(colours).to(torch.float64)
        ridge = RIDGE * len(known) * torch.eye(known.shape[1], dtype=torch.float64)
        return cls(torch.linalg.solve(known.T @ known + ridge, known.T @ wished))

    def picture(self, latent: Tensor) -> Image.Image:
        """The picture of a scaled ``latent`` (C, h, w) on the CPU: w by h pixels."""
        colours = _with_one(latent.to(torch.float64)) @ self._weights
        return to_image(colours.T.reshape(3, *latent.shape[1:]))


def _with_one(latent: Tensor) -> Tensor:
    """A row for each cell: its channels and a 1."""
    cells = latent.flatten(1).T
    return torch.cat([cells, torch.ones(len(cells), 1, dtype=cells.dtype)], dim=1)


def _colours(side: int, knots: int, *, seed: int) -> Tensor:
    """Smooth random colours, float32 (3, side, side) in [-1, 1]."""
    # Nobody else's random numbers may change because somebody looks.
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, knots, knots, generator=generator) * 2 - 1
    smooth = functional.interpolate(coarse, (side, side), mode="bicubic", align_corners=True)
    return smooth[0].clamp(-1, 1)
