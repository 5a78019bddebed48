"""A recipe and pictures so small that a whole training takes seconds."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tools.train_demo_model import (
    stages,
)
from tools.train_demo_model.recipe import Captions, Recipe
from tools.train_demo_model.stages import Workplace

ROOT = Path(__file__).parents[2]
NOTHING_DROPPED = Captions(empty=0, no_subject=0, any_noun=0, category=0, no_colour=0)
CPU = torch.device("cpu")
TINY = {
    "size": 32,
    "held_out": 3,
    "variants": {"plain": 1, "recoloured": 1, "each_style": 1},
    "vae_shape": {"channels": [8, 16], "latent_channels": 3, "groups": 4},
    "unet_shape": {
        "channels": [16, 16, 16],
        "heads": [2, 2, 2],
        "text_width": 16,
        "text_layers": 1,
        "text_heads": 2,
    },
    "vae": {"steps": 6, "batch": 2, "rate": 0.001},
    "decoder": {"steps": 6, "batch": 2, "rate": 0.001},
    "unet": {"steps": 6, "batch": 2, "rate": 0.001},
}


def garment_picture(colour: tuple[int, int, int], shade: int = 200) -> Image.Image:
    """Draw a square object, a little shaded, in the middle of a plain background."""
    pixels = np.full((80, 80, 3), shade, np.uint8)
    pixels[16:64, 20:60] = colour
    light = np.linspace(0.85, 1.0, 80)[:, None, None]
    return Image.fromarray((pixels * light).astype(np.uint8))


def make_work(folder: Path, recipe: Recipe, photographs: tuple[Path, Path]) -> Workplace:
    place = Workplace(folder, recipe, CPU)
    stages.data(place, *photographs)
    return place
