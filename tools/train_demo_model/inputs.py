"""Photographs unlike any of the training data, read from scikit-image's package at run time."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .dataset import Pixels, centre_crop


@dataclass(frozen=True)
class Input:
    """A picture and the noun that a person would use for it."""

    name: str
    noun: str
    pixels: Pixels


#: Bundled colour photographs in the public domain or under CC0, by scikit-image's name for them.
PHOTOGRAPHS = {
    "astronaut": "an astronaut",
    "chelsea": "a cat",
    "coffee": "a cup of coffee",
    "rocket": "a rocket",
}


def demo_inputs(size: int) -> list[Input]:
    """Open the photographs, cut to squares."""
    from skimage import data  # only the evaluation needs it

    made = []
    for name, noun in PHOTOGRAPHS.items():
        load: Callable[[], Pixels] = getattr(data, name)
        picture = Image.fromarray(np.asarray(load())).convert("RGB")
        made.append(Input(name, noun, np.asarray(centre_crop(picture, size))))
    return made
