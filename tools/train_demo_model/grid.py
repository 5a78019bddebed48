"""A grid of results that nobody chose, on pictures that may be shown to anybody.

Invariant: only pictures that the model made from noise and scikit-image's free photographs are
shown; no photograph of the training data, nor anything made of one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from .captions import BARE, STYLES
from .dataset import Pixels
from .editing import Request
from .foreign import StableDiffusionPipeline
from .inputs import Input

CELL, GAP, LABEL = 128, 4, 34

#: What the model paints from noise: base colour, noun, another colour.
SAMPLES = (
    ("red", "apples", "green"),
    ("yellow", "lemons", "blue"),
    ("green", "peppers", "red"),
    ("orange", "oranges", "purple"),
    ("a blue", "dress", "a yellow"),
    ("a red", "t-shirt", "a green"),
)

STYLE_NAMES = ("black and white", "sketch", "night", "warm")


@dataclass(frozen=True)
class Row:
    """One picture and the edits that are asked of it."""

    request: Request

    @property
    def labels(self) -> list[str]:
        """Say what each cell shows; the second is the picture generated back unchanged."""
        made = [*self.request.targets[1:], *self.request.local, *self.request.kept]
        return [f"input: {self.request.base}", "reconstruction", *made]


def sampled_rows(model: Path) -> list[Row]:
    """Let the model paint a picture for each prompt, with the row's number as the seed."""
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    rows = []
    for seed, (colour, noun, other) in enumerate(SAMPLES):
        base = f"a photo of {colour} {noun}"
        generator = torch.Generator().manual_seed(seed)
        made = pipeline(base, num_inference_steps=50, guidance_scale=4.0, generator=generator)
        styled = [STYLES[style][0].format(f"{colour} {noun}") for style in STYLE_NAMES]
        kept = [f"a photo of {other} {noun}"]
        request = Request(np.asarray(made.images[0]), base, [base, *styled], kept=kept)
        rows.append(Row(request))
    return rows


def input_rows(inputs: Sequence[Input]) -> list[Row]:
    """Ask for styles and lights of photographs of things that the model has never seen."""
    rows = []
    for example in inputs:
        base = BARE["photo"]
        targets = [base, *(BARE[style] for style in STYLE_NAMES)]
        rows.append(Row(Request(example.pixels, base, targets)))
    return rows


def draw(rows: Sequence[Row], edits: Sequence[Sequence[Pixels]]) -> Image.Image:
    """Lay the pictures out, each with its words above it."""
    widest = max(len(row.labels) for row in rows)
    pitch = CELL + GAP + LABEL
    sheet = Image.new("RGB", (widest * (CELL + GAP), len(rows) * pitch), "white")
    for index, (row, made) in enumerate(zip(rows, edits, strict=True)):
        cells = [row.request.pixels, *made]
        for column, (words, pixels) in enumerate(zip(row.labels, cells, strict=True)):
            _cell(sheet, column * (CELL + GAP), index * pitch, words, pixels)
    return sheet


def _cell(sheet: Image.Image, left: int, top: int, words: str, pixels: Pixels) -> None:
    picture = Image.fromarray(pixels).resize((CELL, CELL), Image.Resampling.BICUBIC)
    sheet.paste(picture, (left, top + LABEL))
    drawing = ImageDraw.Draw(sheet)
    for line, text in enumerate(_two_lines(words)):
        drawing.text((left + 2, top + 4 + 13 * line), text, fill="black")


def _two_lines(words: str) -> tuple[str, str]:
    parts = words.split()
    middle = (len(parts) + 1) // 2
    return " ".join(parts[:middle]), " ".join(parts[middle:])
