"""What a source holds: a folder or a bucket's prefix, each image with its prompts filled in.

The variables are the columns of a folder's manifest: `{path}` is an image's path below the source,
`{name}` its file name less the suffix, `{folder}` the name of the folder that it lies in, and
`{caption}` the text of the `.txt` file beside it.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from jobs.errors import InvalidInput
from jobs.objects import ObjectStore
from jobs.schedules import Template
from producer.folders import Caption, ImageFile, captioned, images_in, images_under
from producer.templates import Text

VARIABLES = ("path", "name", "folder", "caption")


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


def check_template(template: Template) -> None:
    """Look whether the prompts name variables that there are.

    Raises:
        InvalidInput: says which there are; or see `Text.parse`.
    """
    for field, prompt in _texts(template).items():
        for variable in sorted(prompt.names - set(VARIABLES)):
            raise InvalidInput(
                field,
                f"{{{variable}}} stands for nothing; use "
                + ", ".join(f"{{{name}}}" for name in VARIABLES),
            )


def _texts(template: Template) -> dict[str, Text]:
    """The base prompt and the edit prompts, by the names that whoever wrote them gave them."""
    names = ["base_prompt", *(f"edit_prompts.{number}" for number in range(len(template.edits)))]
    return {
        name: Text.parse(name, prompt)
        for name, prompt in zip(names, template.prompts(), strict=True)
    }


def list_rows(source: str, template: Template, objects: ObjectStore) -> Iterator[SourceRow]:
    """Every image of the source; nothing is kept in memory. Links that lead out are left aside.

    Raises:
        InvalidInput: the folder is not there or cannot be read, or the bucket is not allowed.
        ObjectNotFound, AccessDenied, ServiceUnavailable: what the object store answered.
    """
    base, *edits = _texts(template).values()
    remote = source.startswith("s3://")
    images = images_under(objects, source) if remote else _files(source)
    if not any("caption" in text.names for text in (base, *edits)):
        for image in images:
            yield _row(image, base, edits, "")
        return
    for image, caption in captioned(images, objects if remote else None):
        if caption.text is None:
            yield SourceRow(image.address, _stamp(image), "", (), _problem(image, caption))
        else:
            yield _row(image, base, edits, caption.text)


def _row(image: ImageFile, base: Text, edits: list[Text], caption: str) -> SourceRow:
    path = PurePosixPath(image.below)
    values = {
        "path": image.below,
        "name": path.stem,
        "folder": path.parent.name,
        "caption": caption,
    }
    prompts = tuple(text.fill("edit_prompts", values) for text in edits)
    return SourceRow(image.address, _stamp(image), base.fill("base_prompt", values), prompts)


def _problem(image: ImageFile, caption: Caption) -> str:
    beside = f"{PurePosixPath(image.below).stem}.txt"
    return f"caption: {caption.problem or f'{image.address} has none; write it into {beside}'}"


def _files(folder: str) -> Iterator[ImageFile]:
    if not Path(folder).is_dir():
        raise InvalidInput(
            "source",
            f"{folder} is not a folder on {os.uname().nodename}, where the control process runs",
        )
    root = Path(folder).resolve()
    for image in images_in(root):
        # A link that leads to itself leads nowhere; `Path.resolve` would raise.
        path = Path(os.path.realpath(image.address))
        if path.is_relative_to(root) and path.is_file():
            yield image


def _stamp(image: ImageFile) -> str:
    if image.etag is not None:
        return f"{image.etag}:{image.size}"
    try:
        found = Path(image.address).stat()
    except FileNotFoundError:
        # It is refused by name when it is read, and so never remembered with this stamp.
        return ""
    return f"{found.st_size}:{found.st_mtime_ns}"
