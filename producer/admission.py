"""Rows of wishes in, jobs' specs out: each row is checked by itself, before anything is committed.

A bad row is refused with its number, its image's name and what to do, and its neighbours go on.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Protocol

from jobs.errors import AccessDenied, InvalidInput, NotFound
from jobs.specs import ModelRef, Source, Spec, parse_spec

UPLOADS = 8
"""Images checked and uploaded at once: decoding leaves one core idle half the time."""

_NO_IMAGE_YET = {"uri": "s3://not/known-yet", "sha256": "0" * 64}


class Door(Protocol):
    """Takes images in; see `producer.sources.SourceDoor`."""

    def admit(self, where: str) -> Source:
        """Check the image at a place."""


@dataclass(frozen=True)
class Row:
    """One wish: an image (local path or `s3://` address) and the rest of a spec as plain data.

    A mask is given as the image is, or is "auto".
    """

    image: str
    fields: Mapping[str, Any]

    @property
    def mask(self) -> str | None:
        """Where the mask's image lies, if it is one."""
        mask = self.fields.get("mask")
        return None if mask == "auto" else mask


@dataclass(frozen=True)
class Refusal:
    """A row that was not taken, and why."""

    row: int
    """Counted from 1."""
    image: str
    reason: str
    field: str = "image"
    """The dotted name of what is wrong in the row."""

    @property
    def without_row(self) -> str:
        """The image and the reason, where the user wrote no rows."""
        return self.reason if self.reason.startswith(self.image) else f"{self.image}: {self.reason}"

    def __str__(self) -> str:
        return f"row {self.row}: {self.without_row}"


@dataclass(frozen=True)
class Admission:
    """What the door said."""

    accepted: Sequence[tuple[int, Spec]]
    """Row numbers, counted from 1, and their specs."""
    refused: Sequence[Refusal]

    @property
    def specs(self) -> list[Spec]:
        """The accepted specs, in the order of their rows."""
        return [spec for _, spec in self.accepted]


def edit_rows(
    images: Sequence[str], prompts: Sequence[str], fields: Mapping[str, Any]
) -> list[Row]:
    """Every image under every prompt; edits of one image stand together."""
    return [
        Row(image, {**fields, "kind": "edit", "edit_prompt": prompt})
        for image, prompt in product(images, prompts)
    ]


def admit(rows: Sequence[Row], door: Door, model: ModelRef) -> Admission:
    """Check every row, and upload the images of those that may become jobs, each once.

    Raises:
        ServiceUnavailable: the object store does not answer.
    """
    drafts = [_draft(row, model) for row in rows]
    images = {
        image: None
        for row, draft in zip(rows, drafts, strict=True)
        if not isinstance(draft, InvalidInput)
        for image in (row.image, row.mask)
        if image is not None
    }
    with ThreadPoolExecutor(UPLOADS) as pool:
        sources = dict(zip(images, pool.map(lambda name: _source(door, name), images), strict=True))
    return _admission(rows, drafts, sources)


def _draft(row: Row, model: ModelRef) -> Spec | InvalidInput:
    """The spec as it would be with any image, or what is wrong with the row."""
    try:
        mask = {} if row.mask is None else {"mask": _NO_IMAGE_YET}
        return parse_spec({**row.fields, **mask, "model": model, "source": _NO_IMAGE_YET})
    except InvalidInput as error:
        # The report begins with the spec's kind; the row's own fields have no such level.
        field = error.field.removeprefix(f"{row.fields.get('kind')}.")
        return InvalidInput(field, error.problem)


def _source(door: Door, image: str) -> Source | str:
    try:
        return door.admit(image)
    except InvalidInput as error:
        return error.problem
    except (NotFound, AccessDenied) as error:
        return str(error)


def _admission(
    rows: Sequence[Row],
    drafts: Iterable[Spec | InvalidInput],
    sources: Mapping[str, Source | str],
) -> Admission:
    accepted, refused = [], []
    for number, (row, spec) in enumerate(zip(rows, drafts, strict=True), start=1):
        if isinstance(spec, InvalidInput):
            refused.append(Refusal(number, row.image, str(spec), spec.field))
            continue
        filled = _filled(spec, row, sources)
        if isinstance(filled, Refusal):
            refused.append(replace(filled, row=number))
        else:
            accepted.append((number, filled))
    return Admission(accepted, refused)


def _filled(spec: Spec, row: Row, sources: Mapping[str, Source | str]) -> Spec | Refusal:
    """Put the images into the spec, or say what is wrong with one of them."""
    images = {"source": sources[row.image]}
    if row.mask is not None:
        images["mask"] = sources[row.mask]
    for field, image in images.items():
        if isinstance(image, str):
            return Refusal(0, row.image, image, "image" if field == "source" else field)
    return spec.model_copy(update=images)
