"""What counts as a success: the measures of `edict_engine.quality`, under the names used here.

Pictures are floats (height, width, 3) of 0..1. Each measure of a style compares the edit with the
picture before it, and is reported beside its value on pictures that were not edited.
"""

import numpy as np

from edict_engine.quality.rate import Rate
from edict_engine.quality.words import (
    Picture,
    change,
    chroma,
    colour_is,
    layout_kept,
    luma,
    style_is,
    to_image,
    to_picture,
)

__all__ = [
    "Picture",
    "Rate",
    "change",
    "chroma",
    "colour_is",
    "layout_kept",
    "luma",
    "psnr",
    "style_is",
    "to_image",
    "to_picture",
]


def psnr(one: Picture, other: Picture) -> float:
    """Peak signal-to-noise ratio in decibels."""
    return float(-10 * np.log10(np.mean((one - other) ** 2) + 1e-12))
