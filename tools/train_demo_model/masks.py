"""Where the object is, by simple measures of colour, and how to give it another colour.

A mask that is in doubt is no mask: a recolouring that spills over the background would teach the
model to spill.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from edict_engine.quality.words import colour_of_hue, hsv, hue_distance, mean_hue

from .vocabulary import HUES, Kind

__all__ = [
    "Object",
    "colour_of_hue",
    "find",
    "garment",
    "hsv",
    "hue_distance",
    "mean_hue",
    "produce",
    "recolour",
]

Array = NDArray[np.float32]

#: An object that covers less, or more, than this share of the picture is not told apart.
COVERAGE = (0.06, 0.85)

#: The exponent of the value that makes a colour look natural at the brightness of another.
EVENNESS = {"green": 1.4, "yellow": 0.7, "orange": 0.8, "purple": 1.15}


@dataclass(frozen=True)
class Object:
    """An object told from its background: a soft mask and the colour it has."""

    mask: Image.Image
    colour: str | None
    hue: float
    grey: bool


def find(picture: Image.Image, kind: Kind) -> Object | None:
    """Find the object in a photograph, or nothing where it cannot be told apart."""
    return garment(picture) if kind.category == "clothes" else produce(picture, kind)


def produce(picture: Image.Image, kind: Kind) -> Object | None:
    """Fruit and vegetables have a known hue: what has it and is saturated is the object."""
    if kind.hue is None:
        return None
    hue, saturation, _ = hsv(picture)
    near = ((55 - np.abs(hue_distance(hue, kind.hue))) / 15).clip(0, 1)
    mask = _smooth(near * ((saturation - 0.2) / 0.2).clip(0, 1))
    if not COVERAGE[0] < mask.mean() < 1:
        return None
    return Object(_mask_picture(mask), kind.colour, mean_hue(hue, mask * saturation), grey=False)


def garment(picture: Image.Image) -> Object | None:
    """Garments lie on a background that the picture's edge shows: what differs is the garment."""
    small = picture.resize((64, 64), Image.Resampling.BOX)
    distance = _distance_from_edge(np.asarray(small.convert("YCbCr"), np.float32))
    mask = _smooth((distance > _otsu(distance)).astype(np.float32))
    if not _plausible(mask):
        return None
    hue, saturation, value = hsv(small)
    inside = mask > 0.5
    colour, grey = _colour_name(hue, saturation, value, inside)
    middle = mean_hue(hue, mask * saturation)
    return Object(_mask_picture(mask).resize(picture.size), colour, middle, grey)


def _distance_from_edge(ycc: Array) -> Array:
    """Measure how far each pixel's colour is from the nearest of a few colours of the edge."""
    # Lightness counts for less than colour: a shadow on the background is no object.
    ycc = ycc * np.array([0.6, 1.5, 1.5], np.float32)
    sides = [ycc[:4], ycc[-4:], ycc[:, :4].swapaxes(0, 1), ycc[:, -4:].swapaxes(0, 1)]
    spots = np.stack(sides).reshape(4, 4, 4, 16, 3).transpose(0, 2, 1, 3, 4).reshape(16, -1, 3)
    colours = np.median(spots, axis=1)
    apart = ((ycc[:, :, None] - colours) ** 2).sum(-1)
    return np.asarray(np.sqrt(apart.min(-1)), np.float32)


def _otsu(values: Array) -> float:
    """Find the threshold that parts the values best in two."""
    limits = np.quantile(values, np.linspace(0.05, 0.95, 37))

    def spread(limit: float) -> float:
        low, high = values[values <= limit], values[values > limit]
        return float(low.size * low.var() + high.size * high.var()) if high.size else np.inf

    return float(min(limits, key=spread))


def _plausible(mask: Array) -> bool:
    """Believe a garment's mask where it fills the middle and leaves the edge."""
    edge = np.concatenate(
        [mask[:3].ravel(), mask[-3:].ravel(), mask[:, :3].ravel(), mask[:, -3:].ravel()]
    )
    return bool(
        0.12 < mask.mean() < 0.75 and mask[20:44, 22:42].mean() > 0.75 and edge.mean() < 0.2
    )


def _colour_name(
    hue: Array, saturation: Array, value: Array, inside: NDArray[np.bool_]
) -> tuple[str | None, bool]:
    """Name the colour of a garment; None where it has several."""
    s, v = float(np.median(saturation[inside])), float(np.median(value[inside]))
    if v < 0.25 or s < 0.16:
        return ("black" if v < 0.3 else "white" if v > 0.68 else "grey"), True
    weight = inside * saturation
    middle = mean_hue(hue, weight)
    agree = (np.abs(hue_distance(hue[inside], middle)) < 30).mean()
    if agree < 0.7:
        return None, True
    # A dull orange is what people call brown.
    dull = v < 0.5 or s < 0.45
    return ("brown" if dull and middle < 40 else colour_of_hue(middle)), False


def recolour(picture: Image.Image, mask: Image.Image, thing: Object, colour: str) -> Image.Image:
    """Give the object another colour; its shading and the background stay."""
    hue, saturation, value = hsv(picture)
    target = HUES[colour]
    if thing.grey:
        hue = np.full_like(hue, target)
        saturation = (0.72 - 0.25 * (value - 0.5)).clip(0.4, 0.85)
        value = (0.3 + 0.65 * value).clip(0, 1)
    else:
        hue = (target + 0.5 * hue_distance(hue, thing.hue)) % 360
        saturation = (saturation * 1.05).clip(0, 0.9)
    # Equal values look unequal: green glares and yellow turns olive unless they are evened out.
    value = value ** EVENNESS.get(colour, 1.0)
    painted = _from_hsv(hue, saturation, value)
    return Image.composite(painted, picture, mask)


def _from_hsv(hue: Array, saturation: Array, value: Array) -> Image.Image:
    bands = (hue * (255 / 360), saturation * 255, value * 255)
    pictures = [Image.fromarray(band.round().clip(0, 255).astype(np.uint8)) for band in bands]
    return Image.merge("HSV", pictures).convert("RGB")


def _smooth(mask: Array) -> Array:
    """Close pinholes and drop specks, then soften the rim."""
    picture = _mask_picture(mask).filter(ImageFilter.MedianFilter(5))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(0.8)), np.float32) / np.float32(255)


def _mask_picture(mask: Array) -> Image.Image:
    return Image.fromarray((mask * 255).round().astype(np.uint8))
