"""The model families, told apart by the components that a checkpoint lists.

To add one, write a module like ``sdxl`` and list it here.
"""

from collections.abc import Mapping
from typing import Any

from edict_engine.families.base import Family, Networks
from edict_engine.families.sd3 import StableDiffusion3
from edict_engine.families.sdxl import StableDiffusionXL
from edict_engine.families.stable_diffusion import StableDiffusion


def find_family(index: Mapping[str, Any]) -> type[Family]:
    """Return the family of the checkpoint with this ``model_index.json``."""
    if index.get("transformer"):
        return StableDiffusion3
    _, second_encoder = index.get("text_encoder_2") or (None, None)
    return StableDiffusion if second_encoder is None else StableDiffusionXL


__all__ = [
    "Family",
    "Networks",
    "StableDiffusion",
    "StableDiffusion3",
    "StableDiffusionXL",
    "find_family",
]
