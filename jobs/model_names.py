"""How a model is called: `MODEL[@REVISION][+lora=ADAPTER[@REVISION][:SCALE]]…`.

    stable-diffusion-v1-5/stable-diffusion-v1-5@39593d5
    /models/sd15+lora=/models/loras/sketch.safetensors:0.8
    /models/sd15+lora=owner/sketch@4f1c2d0:0.8+lora=/models/loras/night.safetensors:0.5

Adapters are fused into the weights when a worker starts, so a model with adapters is a model of its
own, with its own entry in the catalogue, its own queue and its own workers. Its name is the whole
text, the same to the letter wherever it stands.
"""

import math
from dataclasses import dataclass

MARK = "+lora="
MAX_SCALE = 10.0


@dataclass(frozen=True)
class AdapterName:
    """A LoRA adapter: a file or folder of the worker's machine, or `owner/name[/file]` of the hub.

    `revision` pins a hub id. `scale` is how much of it is added; 1 as it was trained.
    """

    source: str
    revision: str | None = None
    scale: float = 1.0


@dataclass(frozen=True)
class ModelName:
    """A model's name, taken apart."""

    source: str
    revision: str | None
    adapters: tuple[AdapterName, ...]


def split_name(name: str) -> ModelName:
    """Take a model's name apart.

    Raises:
        ValueError: an adapter is not named, or its scale is no number or out of its domain.
    """
    base, *adapters = name.split(MARK)
    source, revision = split_revision(base)
    if adapters and not source:
        raise ValueError(f"names no model before {MARK!r}; write MODEL{MARK}FILE:SCALE")
    return ModelName(source, revision, tuple(map(_adapter, adapters)))


def split_revision(name: str) -> tuple[str, str | None]:
    """Take `name@revision` apart; a folder's path may hold an `@` before its last slash."""
    base, _, revision = name.rpartition("@")
    return (base, revision) if base and revision and "/" not in revision else (name, None)


def _adapter(text: str) -> AdapterName:
    place, colon, number = text.rpartition(":")
    if not colon or "/" in number:
        place, number = text, "1"
    try:
        scale = float(number)
    except ValueError:
        raise ValueError(
            f"the LoRA {text!r} has the scale {number!r}; write a number, {place}:0.8"
        ) from None
    if not (math.isfinite(scale) and 0 < abs(scale) <= MAX_SCALE):
        raise ValueError(
            f"the LoRA {text!r} has the scale {number}; use one from -{MAX_SCALE:g} to "
            f"{MAX_SCALE:g} other than 0, usually 0.5 to 1"
        )
    source, revision = split_revision(place)
    if not source:
        raise ValueError(f"names no file after {MARK!r}; write MODEL{MARK}FILE:SCALE")
    return AdapterName(source, revision, scale)
