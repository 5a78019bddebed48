"""A row of a manifest as it was written, before anything is made of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jobs.errors import InvalidInput

MAX_COLUMNS = 1_000
MAX_ROW_BYTES = 2**20


@dataclass(frozen=True)
class RawRow:
    """Values by column; or, where the row cannot be read, what is wrong and its text."""

    number: int
    """Counted from 1; a header is no row."""
    values: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None
    text: str = ""
    mark: str | None = None
    """What the place of the row's image says of its content (an ETag), where it is known."""


def check_columns(names: list[str]) -> None:
    """Refuse headers that cannot be meant.

    Raises:
        InvalidInput: too many columns, or two of one name.
    """
    if len(names) > MAX_COLUMNS:
        raise InvalidInput(
            "manifest",
            f"has {len(names)} columns, over the limit of {MAX_COLUMNS}; keep those that are used",
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidInput(
            "manifest", f"names the column {twice[0]!r} twice in its header; rename one of them"
        )
