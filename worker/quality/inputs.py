"""The images of a folder or a manifest and what is said about them.

Nothing here raises for one bad file or row: it becomes a `Failure` with its name, and the others
go on. Only a folder or list that cannot be read at all is an `InputError`.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from edict_engine.errors import EngineError, ImageTooLarge, ParameterError, UnreadableImage
from edict_engine.images import FORMATS, MAX_BYTES, image_size, load_image
from edict_engine.quality.comparison import Failure

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
#: The largest list of captions or edits, and the longest prompt's file.
MAX_LIST_BYTES = 64 * 2**20
MAX_PROMPT_BYTES = 16 * 2**10
EDIT_FIELDS = {"image": True, "base_prompt": True, "edit_prompt": True, "mask": False}
CAPTION_FIELDS = {"image": True, "prompt": True}


class InputError(Exception):
    """What was named on the command line cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Reader:
    """Reads images at a size that the model takes, within limits of bytes and of pixels."""

    size: int
    multiple: int

    def image(self, path: Path) -> Image.Image:
        """Read and decode. Raises `ImageError` and `ParameterError`."""
        return self._load(_read(path))

    def mask(self, path: Path, image: Path) -> Image.Image:
        """Read a mask, cut and scaled as its image. Raises the same, and if the sizes differ."""
        data, (width, height) = _read(path), image_size(_read(image))
        if image_size(data) != (width, height):
            of_mask = "x".join(map(str, image_size(data)))
            raise ParameterError(
                f"mask: it has {of_mask} pixels and the image {width}x{height}: "
                "give a mask of the image's size"
            )
        return self._load(data)

    def _load(self, data: bytes) -> Image.Image:
        return load_image(data, size=self.size, multiple=self.multiple)


@dataclass(frozen=True)
class Captioned:
    """An image of the folder and what it shows."""

    path: Path
    prompt: str


@dataclass(frozen=True)
class EditOrder:
    """One row of a manifest."""

    path: Path
    base_prompt: str
    edit_prompt: str
    mask: Path | None


def find_images(folder: Path, limit: int | None) -> list[Path]:
    """The images in `folder` and below, by name, the first `limit` of them.

    Raises:
        InputError: there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: give one with images")
    found = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()
    )
    if not found:
        raise InputError(f"{folder} has no image: give one with {', '.join(FORMATS)} files")
    return found[:limit]


def caption_images(
    folder: Path, paths: list[Path], prompt: str | None, captions: Path | None
) -> tuple[list[tuple[str, Captioned]], list[Failure]]:
    """Give every image its prompt: the one for all, that of the list, or that of its `.txt`.

    Raises:
        InputError: the list cannot be read.
    """
    listed, failures = ({}, []) if captions is None else _captions(captions)
    made = []
    for path in paths:
        name = path.relative_to(folder).as_posix()
        try:
            said = prompt or (_beside(path) if captions is None else listed.get(path.resolve()))
        except (OSError, ValueError) as error:
            failures.append(Failure(name, f"its caption cannot be read: {error}"))
            continue
        if said:
            made.append((name, Captioned(path, said)))
        else:
            where = f"write it to {path.stem}.txt" if captions is None else f"add it to {captions}"
            failures.append(Failure(name, f"it has no caption: {where}, or give --prompt"))
    return made, failures


def read_manifest(manifest: Path) -> tuple[list[tuple[str, EditOrder]], list[Failure]]:
    """The rows of a manifest, by number; the bad ones with the field that is bad.

    Raises:
        InputError: the manifest cannot be read, or has no row.
    """
    made: list[tuple[str, EditOrder]] = []
    failures = []
    for name, row in _rows(manifest, EDIT_FIELDS):
        if isinstance(row, Failure):
            failures.append(row)
            continue
        mask = row.get("mask")
        order = EditOrder(
            path=manifest.parent / row["image"],
            base_prompt=row["base_prompt"],
            edit_prompt=row["edit_prompt"],
            mask=None if mask is None else manifest.parent / mask,
        )
        made.append((f"{name} ({row['image']})", order))
    if not (made or failures):
        raise InputError(f"{manifest} has no row: write one JSON object a line")
    return made, failures


def check_images(
    reader: Reader, items: list[tuple[str, Any]]
) -> tuple[list[tuple[str, Any]], list[Failure]]:
    """Read every image (and mask) once, and part the good ones from the bad.

    They are read again for each method: kept, they would fill the memory.
    """
    good, failures = [], []
    for name, item in items:
        try:
            reader.image(item.path)
            if getattr(item, "mask", None) is not None:
                reader.mask(item.mask, item.path)
        except EngineError as error:
            failures.append(Failure(name, str(error)))
        else:
            good.append((name, item))
    return good, failures


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise UnreadableImage(f"{path} is no file: check the path")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableImage(f"{path} cannot be read ({error}): check its permissions") from error
    if len(data) > MAX_BYTES:
        raise ImageTooLarge(f"{path} has more than {MAX_BYTES:,} bytes: give a smaller one")
    return data


def _beside(path: Path) -> str | None:
    text = path.with_suffix(".txt")
    if not text.is_file():
        return None
    with text.open("rb") as file:
        return file.read(MAX_PROMPT_BYTES).decode().strip()


def _captions(captions: Path) -> tuple[dict[Path, str], list[Failure]]:
    listed, failures = {}, []
    for _, row in _rows(captions, CAPTION_FIELDS):
        if isinstance(row, Failure):
            failures.append(row)
        else:
            listed[(captions.parent / row["image"]).resolve()] = row["prompt"]
    return listed, failures


def _rows(path: Path, fields: Mapping[str, bool]) -> Iterator[tuple[str, dict[str, str] | Failure]]:
    """The name and the content of each line that is not empty."""
    if not path.is_file():
        raise InputError(f"{path} is no file: give a list with one JSON object a line")
    if path.stat().st_size > MAX_LIST_BYTES:
        raise InputError(f"{path} has more than {MAX_LIST_BYTES:,} bytes: give a shorter list")
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.strip():
            name = f"row {number}"
            try:
                yield name, _row(line, fields)
            except ValueError as error:
                yield name, Failure(name, str(error))


def _row(line: bytes, fields: Mapping[str, bool]) -> dict[str, str]:
    """Parse one line; `fields` says of each field whether it must be there."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON ({error}): write one object a line") from None
    names = ", ".join(fields)
    if not isinstance(row, dict):
        raise ValueError(f"it is no JSON object: write one with {names}")  # noqa: TRY004
    if unknown := sorted(row.keys() - fields.keys()):
        raise ValueError(f"{unknown[0]}: there is no such field; use {names}")
    for field, needed in fields.items():
        if (needed or row.get(field) is not None) and not _is_text(row.get(field)):
            raise ValueError(f"{field}: it is {row.get(field)!r}; give a text that is not empty")
    return row


def _is_text(value: object) -> bool:
    """Whether it can be a prompt or a path; half a surrogate pair can be neither."""
    if not isinstance(value, str) or not value.strip():
        return False
    return not any(one == "\0" or "\ud800" <= one <= "\udfff" for one in value)
