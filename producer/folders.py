"""The images of a folder or of a bucket's prefix, and the captions beside them.

What a folder holds may have been put there by anybody: names that begin with a dot are left aside,
folders are not followed through links, and a caption is never read through one.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from jobs.errors import AccessDenied, InvalidInput, ObjectNotFound
from jobs.objects import ObjectStore

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
MAX_CAPTION_BYTES = 65_536
_READS = 16
"""Captions of a bucket that are read at once."""


@dataclass(frozen=True)
class ImageFile:
    """An image by its name; nobody has looked into it."""

    address: str
    """Its path, or `s3://` address."""
    below: str
    """The part of it that follows the folder or prefix."""
    etag: str | None = None
    """What the bucket says of its content."""
    size: int | None = None
    """In bytes, as the bucket says."""


@dataclass(frozen=True)
class Caption:
    """What the text file beside an image says: `cat.txt` for `cat.jpg`."""

    text: str | None
    """On one line; None: there is no such file, or it cannot be used."""
    problem: str | None = None
    """Why it cannot be used."""


def images_in(folder: Path) -> Iterator[ImageFile]:
    """The images in a folder and all folders below: a folder's own by name, then its folders'.

    Raises:
        InvalidInput: a folder cannot be read; the images in it would be lost without a word.
    """
    for place, folders, files in os.walk(folder, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if _is_image(name) and not name.startswith("."):
                path = Path(place) / name
                yield ImageFile(str(path), path.relative_to(folder).as_posix())


def images_under(objects: ObjectStore, prefix: str) -> Iterator[ImageFile]:
    """The images under an `s3://bucket/prefix`, by key.

    Raises:
        InvalidInput, ObjectNotFound, AccessDenied, ServiceUnavailable: see `ObjectStore.under`.
    """
    start = prefix.rfind("/") + 1
    for each in objects.under(prefix):
        if _is_image(each.uri):
            yield ImageFile(each.uri, each.uri[start:], each.etag, each.size)


def _is_image(name: str) -> bool:
    # A key that ends in / is a folder, as some programs write them.
    return not name.endswith("/") and PurePosixPath(name).suffix.lower() in SUFFIXES


def _unreadable(error: OSError) -> None:
    raise InvalidInput(
        "folder", f"{error.filename}: {error.strerror}; let this process read it, or move it away"
    )


def captioned(
    images: Iterable[ImageFile], objects: ObjectStore | None = None
) -> Iterator[tuple[ImageFile, Caption]]:
    """Images with their captions, in order; those of a bucket need its `objects`.

    Raises:
        ServiceUnavailable: the bucket did not answer.
    """
    if objects is None:
        yield from ((image, _caption(image, _read_file)) for image in images)
        return
    bucket = objects
    rest = iter(images)
    with ThreadPoolExecutor(_READS) as pool:
        while window := list(islice(rest, 16 * _READS)):
            captions = pool.map(lambda image: _caption(image, _from(bucket)), window)
            yield from zip(window, captions, strict=True)


def _caption(image: ImageFile, read: Callable[[str], bytes | None]) -> Caption:
    beside = f"{image.address.rpartition('.')[0]}.txt"
    try:
        data = read(beside)
        return Caption(None if data is None else " ".join(data.decode("utf-8-sig").split()))
    except UnicodeDecodeError:
        return Caption(None, f"{beside} is not UTF-8; save it as that")
    except InvalidInput as error:
        return Caption(None, error.problem)
    except AccessDenied as error:
        return Caption(None, str(error))


def _read_file(path: str) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(MAX_CAPTION_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidInput(
            "caption", f"{path}: {error.strerror}; captions are files, no links"
        ) from None
    if len(data) > MAX_CAPTION_BYTES:
        raise _too_long(path)
    return data


def _from(objects: ObjectStore) -> Callable[[str], bytes | None]:
    def read(uri: str) -> bytes | None:
        try:
            return objects.read(uri, max_bytes=MAX_CAPTION_BYTES)
        except ObjectNotFound:
            return None
        except InvalidInput:
            raise _too_long(uri) from None

    return read


def _too_long(name: str) -> InvalidInput:
    return InvalidInput("caption", f"{name} is over {MAX_CAPTION_BYTES} bytes; shorten it")
