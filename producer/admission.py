"""Rows of wishes in, jobs' specs out: each row is checked by itself, before anything is committed.

A bad row is refused with its number, its image's name and what to do, and its neighbours go on.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any

from jobs.errors import AccessDenied, InvalidInput, NotFound
from jobs.specs import ModelRef, Source, Spec, parse_spec
from producer.sources import SourceDoor

UPLOADS = 8
"""Images checked and uploaded at once: decoding leaves one core idle half the time."""

_PLACEHOLDER = {"uri": "s3://not/known-yet", "sha256": "0" * 64}


@dataclass(frozen=True)
class Row:
    """One wish: an image (local path or `s3://` address) and the rest of a spec as plain data."""

    image: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Refusal:
    """A row that was not taken, and why."""

    row: int
    """Counted from 1."""
    image: str
    reason: str

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


def admit(rows: Sequence[Row], door: SourceDoor, model: ModelRef) -> Admission:
    """Check every row, and upload the images of those that may become jobs, each once.

    Raises:
        ServiceUnavailable: the object store does not answer.
    """
    drafts = [_draft(row, model) for row in rows]
    images = {
        row.image: None
        for row, draft in zip(rows, drafts, strict=True)
        if not isinstance(draft, str)
    }
    with ThreadPoolExecutor(UPLOADS) as pool:
        sources = dict(zip(images, pool.map(lambda name: _source(door, name), images), strict=True))
    return _admission(rows, drafts, sources)


def _draft(row: Row, model: ModelRef) -> Spec | str:
    """The spec with a placeholder for its image, or what is wrong with the row."""
    try:
        return parse_spec({**row.fields, "model": model, "source": _PLACEHOLDER})
    except InvalidInput as error:
        # The report begins with the spec's kind; the row's own fields have no such level.
        return str(error).removeprefix(f"{row.fields.get('kind')}.")


def _source(door: SourceDoor, image: str) -> Source | str:
    try:
        return door.admit(image)
    except InvalidInput as error:
        return error.problem
    except (NotFound, AccessDenied) as error:
        return str(error)


def _admission(
    rows: Sequence[Row], drafts: Iterable[Spec | str], sources: Mapping[str, Source | str]
) -> Admission:
    accepted, refused = [], []
    for number, (row, spec) in enumerate(zip(rows, drafts, strict=True), start=1):
        source = spec if isinstance(spec, str) else sources[row.image]
        if isinstance(spec, str) or isinstance(source, str):
            refused.append(Refusal(number, row.image, str(source)))
        else:
            accepted.append((number, spec.model_copy(update={"source": source})))
    return Admission(accepted, refused)
