"""The photographs of the two data sets, and which of them are held out.

The split is by photograph and by its name alone, never by crop: all pictures made of one
photograph are on the same side, in every run and on every machine.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from .vocabulary import CLOTHING, PRODUCE, Kind

#: Photographs are reduced to this many pixels at the shorter side: crops need no more.
SHORTER_SIDE = 160


@dataclass(frozen=True)
class Photograph:
    """One file, what its folder says of it, and its name within the data set."""

    path: Path
    name: str
    kind: Kind

    def held_out(self, one_in: int) -> bool:
        """Tell whether the photograph is kept for evaluation."""
        return int(hashlib.sha256(self.name.encode()).hexdigest()[:8], 16) % one_in == 0

    def open(self) -> Image.Image:
        """Read the picture, reduced to the size that crops are taken from."""
        with Image.open(self.path) as file:
            picture = file.convert("RGB")
        scale = SHORTER_SIDE / min(picture.size)
        if scale >= 1:
            return picture
        size = (round(picture.width * scale), round(picture.height * scale))
        return picture.resize(size, Image.Resampling.LANCZOS)


def find_photographs(groceries: Path, clothing: Path) -> list[Photograph]:
    """List both data sets in an order that does not depend on the file system."""
    found = [*_find(groceries, PRODUCE), *_find(clothing, CLOTHING)]
    if not found:
        known = f"{', '.join(list(PRODUCE)[:3])}, …, {', '.join(CLOTHING)}"
        raise FileNotFoundError(
            f"no photographs below {groceries} and {clothing}: JPEG files are looked for in "
            f"folders named after their class ({known})"
        )
    return found


def _find(root: Path, kinds: dict[str, Kind]) -> Iterator[Photograph]:
    for path in sorted(root.rglob("*.jpg")):
        kind = kinds.get(path.parent.name)
        if kind is not None:
            yield Photograph(path, path.relative_to(root).as_posix(), kind)
