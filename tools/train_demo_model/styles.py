"""The styles as pixel operations: each turns a photograph into a picture of the same layout."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

#: The tint of each light on (red, green, blue).
NIGHT_TINT = (0.46, 0.56, 0.90)
WARM_TINT = (1.12, 0.88, 0.52)


def black_and_white(picture: Image.Image) -> Image.Image:
    """Take the colour away."""
    return ImageOps.grayscale(picture).convert("RGB")


def sketch(picture: Image.Image) -> Image.Image:
    """Draw in pencil: a picture divided by its own blur keeps only its edges."""
    grey = ImageOps.grayscale(picture)
    blurred = grey.filter(ImageFilter.GaussianBlur(picture.width / 32))
    light = np.asarray(grey, np.float32) * 255 / (np.asarray(blurred, np.float32) + 1)
    # The exponent darkens the lines: at this size faint ones are lost in the autoencoder.
    lines = 255 * (light.clip(0, 255) / 255) ** 1.5
    return Image.fromarray(lines.astype(np.uint8)).convert("RGB")


def night(picture: Image.Image) -> Image.Image:
    """Turn day into night, bright enough to see what the picture shows."""
    rgb = _unit(picture)
    grey = rgb.mean(-1, keepdims=True)
    return _picture((0.5 * rgb + 0.5 * grey) ** 1.05 * np.array(NIGHT_TINT, np.float32))


def warm(picture: Image.Image) -> Image.Image:
    """Light the picture by a low sun."""
    return _picture(_unit(picture) ** 0.95 * np.array(WARM_TINT, np.float32))


RENDER: dict[str, Callable[[Image.Image], Image.Image]] = {
    "black and white": black_and_white,
    "sketch": sketch,
    "night": night,
    "warm": warm,
}


def _unit(picture: Image.Image) -> NDArray[np.float32]:
    return np.asarray(picture, np.float32) / np.float32(255)


def _picture(rgb: NDArray[np.floating]) -> Image.Image:
    return Image.fromarray((rgb.clip(0, 1) * 255).round().astype(np.uint8))
