"""All images of a folder or bucket prefix as rows, with what is known of each as columns.

`image` is the path or address, `path` its part below the folder, `name` the file's name without
its type, `folder` the name of the folder that it lies in, and `caption` what a text file beside it
says (read only where it is asked for).
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from jobs.objects import ObjectStore
from producer.bulk.rows import RawRow
from producer.folders import Caption, ImageFile, captioned, images_in, images_under

_CAPTION = "caption"
_UNREAD = Caption(None)


def read_folder(folder: Path, wanted: Sequence[str]) -> Iterator[RawRow]:
    """Rows of the images in a folder and all folders below; `image` is relative to the folder.

    Raises:
        InvalidInput: see `images_in`.
    """
    images = images_in(folder)
    yield from _rows(captioned(images) if _CAPTION in wanted else _silent(images))


def read_prefix(objects: ObjectStore, prefix: str, wanted: Sequence[str]) -> Iterator[RawRow]:
    """Rows of the images under `s3://bucket/prefix/`, in the order of their keys.

    Raises:
        InvalidInput, ObjectNotFound, AccessDenied, ServiceUnavailable: see `images_under`.
    """
    images = images_under(objects, prefix)
    yield from _rows(captioned(images, objects) if _CAPTION in wanted else _silent(images))


def _silent(images: Iterable[ImageFile]) -> Iterator[tuple[ImageFile, Caption]]:
    return ((image, _UNREAD) for image in images)


def _rows(found: Iterable[tuple[ImageFile, Caption]]) -> Iterator[RawRow]:
    for number, (image, caption) in enumerate(found, start=1):
        values = _columns(image)
        if caption.text is not None:
            values[_CAPTION] = caption.text
        yield RawRow(number, values, caption.problem, image.address, mark=image.etag)


def _columns(image: ImageFile) -> dict[str, str]:
    path = PurePosixPath(image.below)
    where = image.below if image.etag is None else image.address
    return {"image": where, "path": image.below, "name": path.stem, "folder": path.parent.name}
