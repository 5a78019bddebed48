"""VAE and text encoder in batches of several widths (see ``edict_engine.calls``).

A call takes as long for one row as for all that it is wide for, so its time says how fast *full*
batches are, and how fast *lonely* rows.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from bench.engine.models import Models
from edict_engine.model import Model

WIDTHS = (1, 2, 4, 8)
#: Calls of each kind; the quickest counts.
ROUNDS = 100


@dataclass(frozen=True)
class Width:
    """What batches of one width do a second; an image is encoded and decoded."""

    width: int
    images_full: float
    images_lonely: float
    prompts_full: float
    prompts_lonely: float


def measure(models: Models) -> list[Width]:
    """Run all widths, turn about."""
    calls = {
        (width, kind): call
        for width in WIDTHS
        for kind, call in _calls(models.of_width(width), width).items()
    }
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(ROUNDS):
        for key, call in calls.items():
            best[key] = min(best[key], _seconds(call))
    return [
        Width(width, width / images, 1 / images, width / prompts, 1 / prompts)
        for width in WIDTHS
        for images, prompts in [(best[width, "images"], best[width, "prompts"])]
    ]


def _calls(model: Model, width: int) -> dict[str, Callable[[], object]]:
    side, numbers = model.default_size, itertools.count()
    images = [torch.rand(3, side, side) * 2 - 1 for _ in range(width)]

    def prompts() -> list[str]:
        # Always new ones, for the model keeps what it has read.
        return [f"a photo of {next(numbers)}" for _ in range(width)]

    return {
        "images": lambda: model.decode_rows(model.encode_rows(images)),
        "prompts": lambda: model.embed_rows(prompts()),
    }


def _seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun
