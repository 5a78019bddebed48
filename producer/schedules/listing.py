"""What a source holds: a folder or a bucket's prefix, each image with its prompts filled in.

A folder's images are those under it, links that lead out of it left aside. `{name}` is an image's
path below the source, `{stem}` its file name less the suffix, `{caption}` the text of the `.txt`
file beside it.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from jobs.errors import AccessDenied, InvalidInput, ObjectNotFound
from jobs.objects import ObjectStore
from jobs.schedules import Template

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
VARIABLES = ("name", "stem", "caption")
MAX_CAPTION_BYTES = 65_536

_VARIABLE = re.compile(r"\{(\w*)\}")


@dataclass(frozen=True)
class SourceRow:
    """An image of the source."""

    image: str
    """Its local path or `s3://` address."""
    stamp: str
    """Changes with the image's bytes; no need to read them."""
    base: str
    edits: tuple[str, ...]
    problem: str | None = None
    """Why it cannot become a job."""


@dataclass(frozen=True)
class _Image:
    address: str
    name: str
    stamp: str


def check_template(template: Template) -> None:
    """Look whether the prompts name variables that there are.

    Raises:
        InvalidInput: says which there are.
    """
    for prompt in template.prompts():
        for variable in _VARIABLE.findall(prompt):
            if variable not in VARIABLES:
                raise InvalidInput(
                    "template",
                    f"{{{variable}}} stands for nothing; use "
                    + ", ".join(f"{{{name}}}" for name in VARIABLES),
                )


def list_rows(source: str, template: Template, objects: ObjectStore) -> Iterator[SourceRow]:
    """Every image of the source, in the order of their names; nothing is kept in memory.

    Raises:
        InvalidInput: the folder is not there, or the bucket is not allowed.
        ObjectNotFound, AccessDenied, ServiceUnavailable: what the object store answered.
    """
    remote = source.startswith("s3://")
    images = _objects(source, objects) if remote else _files(Path(source))
    needs_caption = any("{caption}" in prompt for prompt in template.prompts())
    for image in images:
        try:
            caption = _caption(image.address, objects) if needs_caption else ""
        except (InvalidInput, ObjectNotFound, AccessDenied) as error:
            yield SourceRow(image.address, image.stamp, "", (), str(error))
            continue
        values = {
            "name": image.name,
            "stem": PurePosixPath(image.name).stem,
            "caption": caption,
        }
        base, *edits = (_filled(prompt, values) for prompt in template.prompts())
        yield SourceRow(image.address, image.stamp, base, tuple(edits))


def _filled(prompt: str, values: dict[str, str]) -> str:
    # Once over the text: a caption may hold braces of its own.
    return _VARIABLE.sub(lambda found: values.get(found[1], found[0]), prompt)


def _objects(prefix: str, objects: ObjectStore) -> Iterator[_Image]:
    start = len(prefix.rpartition("/")[0]) + 1
    for each in objects.under(prefix):
        if PurePosixPath(each.uri).suffix.lower() in SUFFIXES:
            yield _Image(each.uri, each.uri[start:], f"{each.etag}:{each.size}")


def _files(folder: Path) -> Iterator[_Image]:
    if not folder.is_dir():
        raise InvalidInput(
            "source",
            f"{folder} is not a folder on {os.uname().nodename}, where the control process runs",
        )
    root = folder.resolve()
    for path in _walk(root):
        inside = path.resolve().is_relative_to(root)
        if inside and path.is_file() and path.suffix.lower() in SUFFIXES:
            found = path.stat()
            name = path.relative_to(root).as_posix()
            yield _Image(str(path), name, f"{found.st_size}:{found.st_mtime_ns}")


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
        else:
            yield path


def _caption(image: str, objects: ObjectStore) -> str:
    start = image.rpartition(".")[0]
    beside = f"{start}.txt"
    if image.startswith("s3://"):
        data = objects.read(beside, max_bytes=MAX_CAPTION_BYTES)
    else:
        path = Path(beside)
        if not path.is_file() or path.is_symlink():
            raise InvalidInput("caption", f"{image} has no caption; write one into {path.name}")
        if path.stat().st_size > MAX_CAPTION_BYTES:
            raise InvalidInput("caption", f"{path} is over {MAX_CAPTION_BYTES} bytes; shorten it")
        data = path.read_bytes()
    try:
        return " ".join(data.decode("utf-8-sig").split())
    except UnicodeDecodeError:
        raise InvalidInput("caption", f"{beside} is not UTF-8; save it as that") from None
