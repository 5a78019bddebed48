"""Edits that stay inside a mask.

While the edit is generated, everything outside the mask is put back, after each step, to where the
image's own generation was at that step (see ``states``). So the two grow together, and at the end
the latent outside the mask is the image's own, integer for integer. (A VAE's decoder normalises
over the whole picture and looks a few latents around each pixel, so the pixels there do change, a
little: ``overlay`` takes the image's own.)

The mask is the user's, or is found where the two prompts disagree about the noise: the idea of
DiffEdit (Couairon et al. 2022, arXiv 2210.11427). DiffEdit adds random noise to the image and
averages; here the states of the image's own generation are at hand, so no seed is needed and every
model family has them. Three things tell object from background much better than the difference's
plain average over the states does (measured: ``tools/train_demo_model/README.md``):

* Only the noisiest states are asked. There the network has to believe the words about what is
  where; at little noise it sees the picture, and the prompts disagree about edges.
* The difference is made to follow the image: cells near each other that look alike get alike
  values (the guided filter of He et al. 2013, with the image's latent as the guide).
* The threshold is a share of the mean difference weighted by the difference itself, which is that
  of the object whether it fills the picture or is small.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from edict_engine.attention import Control
from edict_engine.conditioning import Conditioning
from edict_engine.errors import ParameterError
from edict_engine.fixed_point import LatentPair, to_float
from edict_engine.samplers import AfterStep, Coroutine, Query
from edict_engine.schedule import Step

#: States that the prompts are compared at, at most. DiffEdit averages over as many noises.
CONTRASTED = 10
#: They are of the noisiest part of the steps: one in so many.
NOISIEST = 5
#: What is near, as a share of the latent's sides: the spread of a Gaussian window.
NEAR = 0.25
#: Keeps the filter from following differences in the image that are small beside its own spread.
EVENNESS = 0.1
#: The share of the object's mean difference from which a place belongs to the mask.
THRESHOLD = 0.85


def latent_mask(mask: Image.Image, size: tuple[int, int], shape: tuple[int, int, int]) -> Tensor:
    """Bring ``mask``, white where edits are allowed, to a latent of ``shape`` (C, h, w).

    Returns bool (h, w): a latent that stands for at least one masked pixel belongs to the mask.
    ``size`` is the image's (width, height). Raises ``ParameterError`` if the mask has another, or
    is empty.
    """
    if mask.size != size:
        raise ParameterError(
            f"the mask has {mask.width}x{mask.height} pixels and the image "
            f"{size[0]}x{size[1]}: give a mask of the image's size"
        )
    white = np.asarray(mask.convert("L")) >= 128
    _, height, width = shape
    cells = white.reshape(height, white.shape[0] // height, width, white.shape[1] // width)
    inside = torch.from_numpy(cells.any(axis=(1, 3)))
    if not inside.any():
        raise ParameterError("the mask is black everywhere: paint white what may change")
    return inside


def check_mask(mask: object, keep_pixels_of: Image.Image | None, size: tuple[int, int]) -> None:
    """Raise ``ParameterError`` unless both can be options of an edit of an image of ``size``."""
    if not (mask is None or mask == "auto" or isinstance(mask, Image.Image)):
        raise ParameterError(f"mask is {mask!r}: give an image of the source's size, or 'auto'")
    if keep_pixels_of is None:
        return
    if mask is None:
        raise ParameterError(
            "keep_pixels_of is given and mask is not: give a mask too, or 'auto', to say where the "
            "image's own pixels end"
        )
    if keep_pixels_of.size != size:
        raise ParameterError(
            f"keep_pixels_of has {keep_pixels_of.width}x{keep_pixels_of.height} pixels and the "
            f"inversion {size[0]}x{size[1]}: give the image that was inverted, at its size"
        )


def mask_image(inside: Tensor, size: tuple[int, int]) -> Image.Image:
    """Draw a latent's mask, bool (h, w), as an image of ``size`` (width, height), 0 and 255."""
    cells = inside.to("cpu", torch.uint8).mul(255).numpy()
    return Image.fromarray(cells).resize(size, Image.Resampling.NEAREST)


def paste(inside: Tensor, states: Sequence[LatentPair], image: Tensor) -> AfterStep:
    """Keep an edit to the mask ``inside``, bool (h, w); elsewhere it is at the image's ``states``.

    The last state is ``image`` itself, the latent that the inversion began with, so that the end
    is exact even where a device or an approximate sampler did not lead back to it.
    """
    ends = [*states[:-1], LatentPair(image, image)]

    def after_step(position: int, pair: LatentPair) -> LatentPair:
        own = ends[position]
        return LatentPair(torch.where(inside, pair.x, own.x), torch.where(inside, pair.y, own.y))

    return after_step


@dataclass(frozen=True)
class Contrast:
    """A ``Guidance`` that answers with the difference of what two prompts say."""

    base: Conditioning
    edit: Conditioning
    rows: int = 2
    control: Control | None = None

    @property
    def contexts(self) -> Conditioning:
        """The base prompt, then the edit."""
        return Conditioning.stack([self.base, self.edit])

    def combine(self, outputs: Tensor, _: float) -> Tensor:
        """See the class; float64 (2, C, H, W) → (C, H, W)."""
        base, edit = outputs.unbind()
        return edit - base


def contrasted(grid: Sequence[Step]) -> list[Step]:
    """Choose the steps whose states the prompts are compared at: the noisiest, never the last."""
    inner = list(grid[:-1]) or list(grid)
    noisiest = inner[: -(-len(inner) // NOISIEST)]
    stride = -(-len(noisiest) // CONTRASTED)
    return noisiest[::stride]


def find_mask(
    states: Sequence[LatentPair], grid: Sequence[Step], image: Tensor
) -> Coroutine[Tensor]:
    """Ask for the prompts' difference at some ``states`` of ``image``; return bool (h, w).

    Drive it with ``Contrast`` guidance. A state lies at the level that its step led to. ``image``
    is the latent that the inversion began with, int64 (C, h, w).
    """
    total = torch.zeros(())
    for step in contrasted(grid):
        below = grid[min(step.position + 1, len(grid) - 1)].timestep
        latent = step.scale_to * to_float(states[step.position].x)
        difference = yield Query(latent, below, step.position)
        size = difference.abs().mean(0)
        # Each state counts the same, whatever the size of its noise.
        total = total.to(size) + size / size.mean().clamp(min=1e-12)
    found = follow(total, to_float(image)).clamp(min=0)
    # Written without a quotient: prompts that never disagree leave everything open.
    return found * found.sum() >= THRESHOLD * found.square().sum()


def follow(values: Tensor, guide: Tensor) -> Tensor:
    """Smooth ``values`` (h, w) along what looks alike and near in ``guide`` (C, h, w), float64.

    In a window around each place the values are fitted by a linear function of the guide, and the
    functions of all windows that cover a place are averaged there.
    """
    guide = guide / guide.std((1, 2), keepdim=True).clamp(min=1e-12)
    mean, level = _near(guide), _near(values)
    covariance = _near(guide * values) - mean * level
    spread = _near(guide[:, None] * guide) - mean[:, None] * mean
    even = EVENNESS * torch.eye(len(guide), dtype=guide.dtype, device=guide.device)
    slope = torch.linalg.solve(spread.permute(2, 3, 0, 1) + even, covariance.permute(1, 2, 0))
    slope = slope.permute(2, 0, 1)
    offset = level - (slope * mean).sum(0)
    return (_near(slope) * guide).sum(0) + _near(offset)


def _near(values: Tensor) -> Tensor:
    """Average ``values`` (..., h, w) over a window around each place."""
    down, across = (_window(length, values) for length in values.shape[-2:])
    return down @ values @ across.T


def _window(length: int, like: Tensor) -> Tensor:
    """Weights of every place, in each row for another one; (length, length)."""
    places = torch.arange(length, dtype=like.dtype, device=like.device)
    distance = (places[:, None] - places) / (NEAR * length)
    weights = (-0.5 * distance.square()).exp()
    return weights / weights.sum(1, keepdim=True)
