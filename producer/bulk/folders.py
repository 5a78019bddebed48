"""All images of a folder or bucket prefix, with what is known of each as columns.

`image` is the path or address, `path` its part below the folder, `name` the file's name without
its type, `folder` the name of the folder that it lies in, and `caption` what a text file beside it
says (`cat.txt` for `cat.jpg`; read only where it is asked for).
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path, PurePosixPath

from jobs.errors import AccessDenied, InvalidInput, ObjectNotFound
from jobs.objects import ObjectStore
from producer.bulk.rows import RawRow

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
CAPTION_BYTES = 64 * 1024
_CAPTION = "caption"
_READS = 16


def read_folder(folder: Path, wanted: Sequence[str]) -> Iterator[RawRow]:
    """Rows of the images in a folder and all folders below, in the order of their paths."""
    for number, path in enumerate(_walk(folder), start=1):
        below = path.relative_to(folder).as_posix()
        values = _columns(below, below)
        if _CAPTION in wanted and (caption := _local_caption(path)) is not None:
            values[_CAPTION] = caption
        yield RawRow(number, values)


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if PurePosixPath(name).suffix.lower() in SUFFIXES:
                yield Path(place) / name


def _local_caption(image: Path) -> str | None:
    try:
        with image.with_suffix(".txt").open("rb") as file:
            return file.read(CAPTION_BYTES).decode(errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidInput("caption", f"{error.filename}: {error.strerror}") from None


def read_prefix(objects: ObjectStore, prefix: str, wanted: Sequence[str]) -> Iterator[RawRow]:
    """Rows of the images under `s3://bucket/prefix/`, in the order of their keys."""
    images = (
        info
        for info in objects.under(prefix)
        if PurePosixPath(info.uri).suffix.lower() in SUFFIXES and info.size
    )
    read: Callable[[str], str | None] = lambda uri: _caption_of(objects, uri)  # noqa: E731
    number = 0
    with ThreadPoolExecutor(_READS) as pool:
        while window := list(islice(images, 16 * _READS)):
            uris = [info.uri for info in window]
            captions = list(pool.map(read, uris)) if _CAPTION in wanted else [None] * len(uris)
            for info, caption in zip(window, captions, strict=True):
                number += 1
                values = _columns(info.uri, info.uri.removeprefix(prefix))
                if caption is not None:
                    values[_CAPTION] = caption
                yield RawRow(number, values, mark=info.etag)


def _caption_of(objects: ObjectStore, uri: str) -> str | None:
    sidecar = f"{uri.rpartition('.')[0]}.txt"
    try:
        data = objects.read(sidecar, max_bytes=CAPTION_BYTES)
    except (ObjectNotFound, AccessDenied):
        return None
    return data.decode(errors="replace").strip()


def _columns(image: str, below: str) -> dict[str, str]:
    path = PurePosixPath(below)
    return {"image": image, "path": below, "name": path.stem, "folder": path.parent.name}
