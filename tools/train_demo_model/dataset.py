"""From photographs to pictures with captions, all made once and kept on disk.

Invariant: what is made of a photograph depends on the recipe's seed and the photograph's name,
never on what was made before it.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from . import masks, styles
from .captions import Subject, caption
from .files import replaced
from .photographs import Photograph
from .recipe import Recipe
from .vocabulary import HUES

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Pictures:
    """Pictures (count, size, size, 3), the caption of each, and what names their photographs."""

    pixels: Pixels
    captions: list[str]
    photographs: str


def prepare(
    photographs: list[Photograph], recipe: Recipe, folder: Path, tick: Callable[[int], None]
) -> None:
    """Make the training pictures; a call that was interrupted starts afresh."""
    training = [photo for photo in photographs if not photo.held_out(recipe.held_out)]
    made: list[tuple[Pixels, str]] = []
    for photo in training:
        made.extend(make_pictures(photo, recipe))
        tick(1)
    # Written last, and removed first: its presence says that the pictures are those of its recipe.
    (folder / "captions.json").unlink(missing_ok=True)
    with replaced(folder / "pictures.npy") as path, path.open("wb") as file:
        np.save(file, np.stack([pixels for pixels, _ in made]))
    record = {
        "digest": data_digest(recipe),
        "photographs": names_digest(training),
        "captions": [words for _, words in made],
    }
    text = json.dumps(record)
    with replaced(folder / "captions.json") as path:
        path.write_text(text)


def data_digest(recipe: Recipe) -> str:
    """Name what the pictures depend on."""
    return recipe.digest("seed", "size", "held_out", "variants", "captions")


def names_digest(photographs: Iterable[Photograph]) -> str:
    """Name the photographs that pictures are made of."""
    names = "\n".join(photo.name for photo in photographs)
    return hashlib.sha256(names.encode()).hexdigest()[:16]


def load(folder: Path, recipe: Recipe) -> Pictures | None:
    """Open the training pictures, if this recipe's are there."""
    path = folder / "captions.json"
    record = json.loads(path.read_text()) if path.exists() else {}
    if record.get("digest") != data_digest(recipe):
        return None
    pixels: Pixels = np.load(folder / "pictures.npy", mmap_mode="r")
    return Pictures(pixels, record["captions"], record.get("photographs", ""))


def make_pictures(photo: Photograph, recipe: Recipe) -> Iterator[tuple[Pixels, str]]:
    """Make all variants of one photograph, each from a crop of its own."""
    rng = _generator(recipe.seed, photo.name)
    whole = photo.open()
    thing = masks.find(whole, photo.kind)
    subject = Subject(photo.kind, thing.colour if thing else photo.kind.colour)
    crops = _crops(whole, thing, recipe.size, rng)
    for picture, words in _variants(crops, subject, thing, recipe, rng):
        yield np.asarray(picture), words


def _variants(
    crops: Iterator[tuple[Image.Image, Image.Image | None]],
    subject: Subject,
    thing: masks.Object | None,
    recipe: Recipe,
    rng: np.random.Generator,
) -> Iterable[tuple[Image.Image, str]]:
    drops = recipe.captions
    for _ in range(recipe.variants.plain):
        yield next(crops)[0], caption("photo", subject, drops, rng)
    for style, render in styles.RENDER.items():
        for _ in range(recipe.variants.each_style):
            yield render(next(crops)[0]), caption(style, subject, drops, rng)
    if thing is None:
        return
    for colour in rng.permutation(other_colours(thing))[: recipe.variants.recoloured]:
        picture, mask = next(crops)
        if mask is not None:
            painted = masks.recolour(picture, mask, thing, str(colour))
            yield painted, caption("photo", Subject(subject.kind, str(colour)), drops, rng)


def other_colours(thing: masks.Object) -> list[str]:
    """List the colours that are plainly not the object's own."""
    if thing.grey:
        return list(HUES)
    return [c for c, hue in HUES.items() if abs(masks.hue_distance(hue, thing.hue)) > 32]


def _crops(
    whole: Image.Image, thing: masks.Object | None, size: int, rng: np.random.Generator
) -> Iterator[tuple[Image.Image, Image.Image | None]]:
    """Draw square crops: mostly of the scene, now and then close by, for textures."""
    edge = min(whole.size)
    while True:
        scale = rng.uniform(0.66, 1.0) if rng.random() < 0.8 else rng.uniform(0.42, 0.66)
        side = int(edge * scale)
        left = int(rng.integers(whole.width - side + 1))
        top = int(rng.integers(whole.height - side + 1))
        box = (left, top, left + side, top + side)
        mirrored = rng.random() < 0.5
        mask = None if thing is None else _cut(thing.mask, box, size, mirrored)
        yield _cut(whole, box, size, mirrored), mask


def centre_crop(whole: Image.Image, size: int) -> Image.Image:
    """Cut the largest square from the middle."""
    return ImageOps.fit(whole, (size, size), Image.Resampling.LANCZOS)


def _cut(
    picture: Image.Image, box: tuple[int, int, int, int], size: int, mirrored: bool
) -> Image.Image:
    cut = picture.resize((size, size), Image.Resampling.LANCZOS, box=box)
    return ImageOps.mirror(cut) if mirrored else cut


def _generator(seed: int, name: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))
