"""The place of an edit, found from its two prompts.

It is where they disagree about the noise in the image: the idea of DiffEdit (Couairon et al. 2022,
arXiv 2210.11427), which adds random noise to the image, asks the network under both prompts and
averages the sizes of the differences over many noises. Three things tell object from background
much better than that average alone (measured: ``tools/train_demo_model/README.md``):

* There is much noise. The network has to believe the words about what is where; at little noise it
  sees the picture, and the prompts disagree about edges. On an image's own way to the noise they
  say less than under random noise, which is what the network was trained on.
* The difference is made to follow the image: around each place it is fitted by a linear function
  of the image's colours, which is what is used in its stead (the guided filter of He et al. 2013,
  fitted on coarse cells as in their fast one of 2015, arXiv 1505.00996). Where the image's pixels
  are at hand, so is a mask to the pixel.
* The threshold is a share of the mean difference weighted by the difference itself, which is that
  of the object whether it fills the picture or is small.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from edict_engine.attention import Control
from edict_engine.conditioning import Conditioning
from edict_engine.fixed_point import to_float
from edict_engine.parameters import MAX_STEPS
from edict_engine.samplers import Coroutine, Query
from edict_engine.schedule import Schedule, Step

#: The levels at which the prompts are compared, in hundredths of the way to pure noise.
LEVELS = (90, 85, 80, 75)
#: What is near, as a share of the latent's sides: the spread of a Gaussian window.
NEAR = 0.5
#: Keeps the fit from following differences in the image that are small beside its own spread.
EVENNESS = 0.02
#: The share of the object's mean difference from which a cell belongs to the mask.
CELL_THRESHOLD = 0.85
#: The same for a pixel, which is known better.
PIXEL_THRESHOLD = 0.93
#: How far on both sides of it a pixel belongs to the mask in part.
SOFTNESS = 0.05
#: Cells by which a mask of pixels grows: an edge is a little of both colours.
GROWTH = 0.25
#: The spread of a Gaussian that takes noise and weave from an image's pixels, in cells.
BLUR = 0.2


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


def noisy_steps(schedule: Schedule) -> list[Step]:
    """Return the steps that begin at ``LEVELS``, whatever an edit's own steps are."""
    steps = min(schedule.train_timesteps, MAX_STEPS)
    return [schedule.grid(steps, (level * steps // 100 + 1) / steps)[0] for level in LEVELS]


def compare(image: Tensor, image_scale: float, steps: Sequence[Step]) -> Coroutine[Tensor]:
    """Ask how the prompts differ on noised copies of ``image``, at the levels that ``steps`` begin.

    Drive it with ``Contrast`` guidance. ``image`` is the latent that the inversion began with,
    int64 (C, h, w), of ``image_scale``. Returns the mean size of the difference, float64 (h, w).
    The noise is always the same one, added and subtracted in turn, so that half of what it does to
    the answers cancels.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(image.shape, generator=generator, dtype=torch.float64).to(image.device)
    total = torch.zeros(image.shape[1:], dtype=torch.float64, device=image.device)
    for turn, step in enumerate(steps):
        noised = step.signal * image_scale * to_float(image) + step.noise * (-1) ** turn * noise
        difference = yield Query(step.scale_from * noised, step.timestep, turn)
        size = difference.abs().mean(0)
        # Each level counts the same, whatever the size of its noise.
        total = total + size / size.mean().clamp(min=1e-12)
    return total / len(steps)


def cells(difference: Tensor, image: Tensor) -> Tensor:
    """Say which cells belong to the edit by the latent ``image``, float64 (C, h, w); bool (h, w).

    ``difference`` is what ``compare`` returned.
    """
    return belonging(difference, image) >= CELL_THRESHOLD


def pixels(difference: Tensor, image: Image.Image) -> Image.Image:
    """Say how much each pixel of ``image`` belongs to the edit: mode L, 255 where wholly.

    ``difference`` is what ``compare`` returned, on the CPU.
    """
    cell = image.height / difference.shape[0]
    smooth = image.convert("RGB").filter(ImageFilter.GaussianBlur(BLUR * cell))
    colours = torch.from_numpy(np.asarray(smooth).copy()).permute(2, 0, 1).to(torch.float64)
    share = (belonging(difference, colours) - PIXEL_THRESHOLD) / (2 * SOFTNESS) + 0.5
    found = Image.fromarray((255 * share.clamp(0, 1)).round().to(torch.uint8).numpy())
    return found.filter(ImageFilter.MaxFilter(2 * round(GROWTH * cell) + 1))


def belonging(difference: Tensor, image: Tensor) -> Tensor:
    """Compare each place of ``image``, float64 (C, H, W), with the object; 1 is like it, (H, W).

    ``difference``, (h, w), is of cells of H/h by W/w places.
    """
    found = follow(difference, image).clamp(min=0)
    of_object = found.square().sum() / found.sum().clamp(min=1e-12)
    # Prompts that never disagree leave everything open.
    return found / of_object if of_object > 0 else torch.ones_like(found)


def follow(values: Tensor, image: Tensor) -> Tensor:
    """Smooth ``values`` (h, w) along what looks alike and near in ``image``, (C, H, W) → (H, W).

    In a window around each cell the values are fitted by a linear function of the cells' colours.
    The functions of all windows that cover a place are averaged there, and asked for its own.
    """
    # Around its mean: one colour all over is nothing then, and no huge number over no spread.
    image = image - image.mean((1, 2), keepdim=True)
    image = image / image.std((1, 2), keepdim=True).clamp(min=1e-12)
    guide = adaptive_avg_pool2d(image, (values.shape[0], values.shape[1]))
    mean, level = _near(guide), _near(values)
    covariance = _near(guide * values) - mean * level
    spread = _near(guide[:, None] * guide) - mean[:, None] * mean
    even = EVENNESS * torch.eye(len(guide), dtype=guide.dtype, device=guide.device)
    slope = torch.linalg.solve(spread.permute(2, 3, 0, 1) + even, covariance.permute(1, 2, 0))
    slope = slope.permute(2, 0, 1)
    offset = level - (slope * mean).sum(0)
    function = torch.cat([_near(slope), _near(offset)[None]])
    function = interpolate(function[None], image.shape[1:], mode="bilinear")[0]
    smooth: Tensor = (function[:-1] * image).sum(0) + function[-1]
    return smooth


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
