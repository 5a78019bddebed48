"""Whether an edit did what its words say, in a few plain numbers that anybody can check by eye.

Pictures are float32 (height, width, 3) in 0..1, masks (height, width) in 0..1. This stands in for a
classifier on the domain of the model that ships: it knows colour words, and "black and white",
"pencil sketch", "at night" and "in warm light". Each measure of a style compares the edit with the
picture before it.
"""

import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.float32]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)

#: The hue in degrees at the middle of each colour word.
HUES: dict[str, float] = {
    "red": 0.0,
    "orange": 26.0,
    "yellow": 50.0,
    "green": 110.0,
    "blue": 215.0,
    "purple": 280.0,
    "pink": 328.0,
}
#: Where one colour word ends and the next begins, in degrees (0 is in "red").
HUE_LIMITS: tuple[tuple[float, str], ...] = (
    (14.0, "red"),
    (38.0, "orange"),
    (66.0, "yellow"),
    (165.0, "green"),
    (252.0, "blue"),
    (305.0, "purple"),
    (345.0, "pink"),
    (360.0, "red"),
)
#: A colour is right with the right name, or at most this far from the middle of its name.
HUE_TOLERANCE = 20.0
SATURATED = 0.2
#: Mean difference of the largest and smallest channel below which a picture looks grey.
GREY = 0.07
#: A saturated part that covers less than this share of a picture is no object.
SMALLEST_OBJECT = 0.06

#: What a prompt says for each style.
PHRASES: dict[str, str] = {
    "black and white": "black and white",
    "pencil sketch": "sketch",
    "at night": "night",
    "in warm light": "warm",
}


def verdicts(
    base_prompt: str, edit_prompt: str, before: Picture, after: Picture, mask: Picture | None = None
) -> dict[str, bool]:
    """Tell, for each style and colour that the edit asks for anew, whether ``after`` has it.

    Empty where the edit asks for none. A colour is looked for in ``mask``, or without one in what
    ``object_mask`` finds. A colour is not judged where a style replaces the colours.
    """
    styles = [PHRASES[phrase] for phrase in _added(PHRASES, base_prompt, edit_prompt)]
    found = {style: style_is(style, before, after) for style in styles}
    if not styles:
        where = object_mask(before) if mask is None else mask
        for colour in _added(HUES, base_prompt, edit_prompt):
            found[colour] = colour_is(after, where, colour)
    return found


def object_mask(picture: Picture) -> Picture:
    """Return what stands out by its saturation, or everything where nothing does."""
    _, saturation, _ = hsv(to_image(picture))
    mask = ((saturation - SATURATED) / SATURATED).clip(0, 1)
    return np.asarray(mask if mask.mean() >= SMALLEST_OBJECT else np.ones_like(mask), np.float32)


def colour_is(picture: Picture, mask: Picture, colour: str) -> bool:
    """Tell whether the masked object has a colour, by the mean of its saturated hues."""
    hue, saturation, _ = hsv(to_image(picture))
    # A mask with nothing in it covers no object of any colour.
    if not mask.any() or (mask * saturation).sum() / mask.sum() < SATURATED:
        return False
    mean = mean_hue(hue, mask * saturation)
    near = abs(float(hue_distance(mean, HUES[colour]))) <= HUE_TOLERANCE
    return near or colour_of_hue(mean) == colour


def style_is(style: str, before: Picture, after: Picture) -> bool:
    """Tell whether a picture took on a style, one of the values of ``PHRASES``."""
    return _STYLE_TESTS[style](before, after)


def luma(picture: Picture) -> Picture:
    """Brightness of each pixel."""
    return np.asarray(picture @ LUMA, np.float32)


def chroma(picture: Picture) -> float:
    """How colourful a picture is."""
    return float((picture.max(-1) - picture.min(-1)).mean())


def layout_kept(before: Picture, after: Picture) -> float:
    """Correlate the edges of two pictures: 1 for the same layout, about 0 for unrelated ones.

    Pictures without any edge have no layout: 1 if neither has one, else 0.
    """
    one, other = edges(before).ravel(), edges(after).ravel()
    if not (one.std() and other.std()):
        return float(one.std() == other.std())
    return float(np.corrcoef(one, other)[0, 1])


def edges(picture: Picture) -> Picture:
    """Magnitude of the brightness's gradient at each pixel."""
    down, across = np.gradient(luma(picture))
    return np.asarray(np.hypot(down, across), np.float32)


def change(before: Picture, after: Picture, mask: Picture) -> float:
    """Mean change of a pixel where the mask is."""
    difference = np.abs(before - after).mean(-1)
    return float((difference * mask).sum() / (mask.sum() + 1e-6))


def hsv(picture: Image.Image) -> tuple[Picture, Picture, Picture]:
    """Split into hue in degrees, saturation and value in 0..1."""
    channels = np.asarray(picture.convert("HSV"), np.float32) / np.float32(255)
    return channels[..., 0] * np.float32(360), channels[..., 1], channels[..., 2]


def hue_distance(hue: Picture | float, other: Picture | float) -> Picture:
    """Signed distance on the circle of hues, in -180..180 degrees."""
    return np.asarray((np.asarray(hue) - other + 180) % 360 - 180, np.float32)


def colour_of_hue(hue: float) -> str:
    """Name a hue."""
    return next(name for limit, name in HUE_LIMITS if hue % 360 <= limit)


def mean_hue(hue: Picture, weight: Picture) -> float:
    """Average hues on their circle."""
    total = (weight * np.exp(1j * np.deg2rad(hue))).sum()
    return float(np.rad2deg(np.angle(total)) % 360)


def to_picture(pixels: NDArray[np.uint8]) -> Picture:
    """Bytes to 0..1."""
    return np.asarray(pixels, np.float32) / np.float32(255)


def to_image(picture: Picture) -> Image.Image:
    """Turn 0..1 into a PIL image."""
    return Image.fromarray((picture.clip(0, 1) * 255).round().astype(np.uint8))


def _added(phrases: Iterable[str], base: str, edit: str) -> list[str]:
    """Those of ``phrases`` that ``edit`` has and ``base`` has not."""
    return [phrase for phrase in phrases if _says(edit, phrase) and not _says(base, phrase)]


def _says(prompt: str, phrase: str) -> bool:
    return re.search(rf"\b{re.escape(phrase)}\b", prompt, re.IGNORECASE) is not None


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
