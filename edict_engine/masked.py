"""Edits that stay inside a mask.

While the edit is generated, everything outside the mask is put back, after each step, to where the
image's own generation was at that step (see ``states``). So the two grow together, and at the end
the latent outside the mask is the image's own, integer for integer. (A VAE's decoder normalises
over the whole picture and looks a few latents around each pixel, so the pixels there do change, a
little: ``overlay`` takes the image's own.)

The mask is the user's, or is found from the two prompts (see ``found_mask``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from edict_engine import found_mask
from edict_engine.errors import ParameterError
from edict_engine.fixed_point import LatentPair, to_float
from edict_engine.overlay import overlay, rim
from edict_engine.samplers import AfterStep


@dataclass(frozen=True)
class Place:
    """Where an edit may change an image.

    ``inside``, bool (h, w), says it for the latent. ``share``, of the image's size, says how much
    of the edit each pixel shows, 0 to 255, where the others are to be the source's own.
    """

    inside: Tensor
    share: Image.Image | None = None

    @classmethod
    def given(
        cls, mask: Image.Image, shape: tuple[int, int, int], source: Image.Image | None
    ) -> "Place":
        """Take a user's ``mask``; with a ``source``, whose own pixels are kept, to the pixel."""
        inside = latent_mask(mask, shape)
        if source is None:
            return cls(inside)
        # Half a cell is how far the decoder carries an edit over the mask's rim.
        return cls(inside, rim(mask, mask.height // shape[1] // 2))

    @classmethod
    def found(cls, difference: Tensor, image: Tensor, source: Image.Image | None) -> "Place":
        """Find the place from how the prompts differ on the latent ``image``, int64 (C, h, w).

        ``difference``, (h, w), is what ``found_mask.compare`` returned.
        """
        if source is None:
            return cls(found_mask.cells(difference, to_float(image)))
        share = found_mask.pixels(difference, source)
        return cls(latent_mask(_any_of(share), (0, *difference.shape)), share)

    def show(
        self, edited: Image.Image, source: Image.Image | None
    ) -> tuple[Image.Image, Image.Image]:
        """Return the finished image and, white, what of it could change."""
        if self.share is None or source is None:
            return edited, mask_image(self.inside, edited.size)
        return overlay(edited, source, self.share), _any_of(self.share)


def latent_mask(mask: Image.Image, shape: tuple[int, int, int]) -> Tensor:
    """Bring ``mask``, white where edits are allowed, to a latent of ``shape`` (C, h, w).

    Returns bool (h, w): a latent that stands for at least one masked pixel belongs to the mask.
    """
    white = np.asarray(mask.convert("L")) >= 128
    _, height, width = shape
    cells = white.reshape(height, white.shape[0] // height, width, white.shape[1] // width)
    return torch.from_numpy(cells.any(axis=(1, 3)))


def check_mask(mask: object, keep_pixels_of: Image.Image | None, size: tuple[int, int]) -> None:
    """Raise ``ParameterError`` unless both can be options of an edit of an image of ``size``."""
    if isinstance(mask, Image.Image):
        if mask.size != size:
            raise ParameterError(
                f"the mask has {mask.width}x{mask.height} pixels and the image "
                f"{size[0]}x{size[1]}: give a mask of the image's size"
            )
        if not (np.asarray(mask.convert("L")) >= 128).any():
            raise ParameterError("the mask is black everywhere: paint white what may change")
    elif not (mask is None or mask == "auto"):
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


def _any_of(share: Image.Image) -> Image.Image:
    return share.point(lambda value: 255 if value else 0)
