"""What counts as a success, in a few plain numbers that anybody can check by eye.

Pictures are floats (height, width, 3) of 0..1. Each measure of a style compares the edit with the
picture before it, and is reported beside its value on pictures that were not edited.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import masks
from .vocabulary import HUES

Picture = NDArray[np.float32]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)

#: A colour is right with the right name, or at most this far from the middle of its name.
HUE_TOLERANCE = 20.0
SATURATED = 0.2
#: Mean difference of the largest and smallest channel below which a picture looks grey.
GREY = 0.07


@dataclass(frozen=True)
class Rate:
    """So many successes of so many trials."""

    successes: int
    trials: int

    @staticmethod
    def of(outcomes: list[bool]) -> "Rate":
        """Count."""
        return Rate(sum(outcomes), len(outcomes))

    @property
    def share(self) -> float:
        """The estimate."""
        return self.successes / max(self.trials, 1)

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """Give Wilson's interval (95% unless told otherwise); it holds near 0 and 1 too."""
        n = max(self.trials, 1)
        middle = (self.share + z * z / (2 * n)) / (1 + z * z / n)
        spread = z * np.sqrt(self.share * (1 - self.share) / n + z * z / (4 * n * n))
        half = float(spread) / (1 + z * z / n)
        return max(0.0, middle - half), min(1.0, middle + half)

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.share:.0%} ({low:.0%}-{high:.0%}, n={self.trials})"


def psnr(one: Picture, other: Picture) -> float:
    """Peak signal-to-noise ratio in decibels."""
    return float(-10 * np.log10(np.mean((one - other) ** 2) + 1e-12))


def luma(picture: Picture) -> Picture:
    """Brightness of each pixel."""
    return np.asarray(picture @ LUMA, np.float32)


def chroma(picture: Picture) -> float:
    """How colourful a picture is."""
    return float((picture.max(-1) - picture.min(-1)).mean())


def colour_is(picture: Picture, mask: Picture, colour: str) -> bool:
    """Tell whether the masked object has a colour, by the mean of its saturated hues."""
    hue, saturation, _ = masks.hsv(to_image(picture))
    if (mask * saturation).sum() / mask.sum() < SATURATED:
        return False
    mean = masks.mean_hue(hue, mask * saturation)
    near = abs(float(masks.hue_distance(mean, HUES[colour]))) <= HUE_TOLERANCE
    return near or masks.colour_of_hue(mean) == colour


def style_is(style: str, before: Picture, after: Picture) -> bool:
    """Tell whether a picture took on a style."""
    return _STYLE_TESTS[style](before, after)


def _is_grey(before: Picture, after: Picture) -> bool:
    """Lose the colour but not the shades, whose range tells a photograph from a drawing."""
    del before
    return chroma(after) < GREY and float(luma(after).mean()) < 0.85


def _is_sketch(before: Picture, after: Picture) -> bool:
    """Draw dark lines on paper: grey, mostly white, with something on it."""
    del before
    light = luma(after)
    return chroma(after) < GREY and float(np.median(light)) > 0.8 and float(light.std()) > 0.05


def _is_night(before: Picture, after: Picture) -> bool:
    """Fall dark and bluer, yet not so dark that nothing is seen."""
    light = float(luma(after).mean())
    darker = light < 0.75 * float(luma(before).mean())
    return darker and light > 0.08 and _blueness(after) > _blueness(before)


def _is_warm(before: Picture, after: Picture) -> bool:
    """Shift from blue to red, keeping most of the brightness."""
    bright = float(luma(after).mean()) > 0.6 * float(luma(before).mean())
    return bright and _blueness(after) < _blueness(before) - 0.06


_STYLE_TESTS = {
    "black and white": _is_grey,
    "sketch": _is_sketch,
    "night": _is_night,
    "warm": _is_warm,
}


def _blueness(picture: Picture) -> float:
    """Blue less red, as a share of the brightness."""
    return float((picture[..., 2] - picture[..., 0]).mean() / (luma(picture).mean() + 0.02))


def layout_kept(before: Picture, after: Picture) -> float:
    """Correlate the edges of two pictures: 1 for the same layout, about 0 for unrelated ones."""
    return float(np.corrcoef(_edges(before).ravel(), _edges(after).ravel())[0, 1])


def _edges(picture: Picture) -> Picture:
    down, across = np.gradient(luma(picture))
    return np.asarray(np.hypot(down, across), np.float32)


def change(before: Picture, after: Picture, mask: Picture) -> float:
    """Mean change of a pixel where the mask is."""
    difference = np.abs(before - after).mean(-1)
    return float((difference * mask).sum() / (mask.sum() + 1e-6))


def to_picture(pixels: NDArray[np.uint8]) -> Picture:
    """Bytes to 0..1."""
    return np.asarray(pixels, np.float32) / np.float32(255)


def to_image(picture: Picture) -> Image.Image:
    """Turn 0..1 into a PIL image."""
    return Image.fromarray((picture.clip(0, 1) * 255).round().astype(np.uint8))
