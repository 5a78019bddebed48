"""The rows that were refused, as JSON lines: to be mended, and submitted again as they are.

What begins with `_` says what is wrong, and is not read again.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from jobs.errors import InvalidInput
from producer.bulk.rows import RawRow


@dataclass(frozen=True)
class Reject:
    """A row that was not taken, and why."""

    row: RawRow
    field: str
    problem: str

    def __str__(self) -> str:
        return f"row {self.row.number}: {self.field}: {self.problem}"


def place_beside(wanted: Path, manifest: str) -> Path:
    """`wanted`, or a free name beside it where the manifest lies there.

    Refused rows that were mended are a manifest themselves, and its good rows are nowhere else.
    """
    if not wanted.exists() or wanted.resolve() != Path(manifest).resolve():
        return wanted
    names = (wanted.with_stem(f"{wanted.stem}-{number}") for number in count(2))
    return next(name for name in names if not name.exists())


class RejectFile:
    """Appears at its path when it is closed, if there was anything to write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = path.with_name(f".{path.name}.part")
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        return self

    def write(self, rejects: Iterable[Reject]) -> None:
        """Add rows.

        Raises:
            InvalidInput: the file cannot be written.
        """
        try:
            for each in rejects:
                if self._file is None:
                    # Half a surrogate pair has no UTF-8: it stays as JSON spells it.
                    self._file = self._part.open("w", encoding="utf-8", errors="backslashreplace")
                self._file.write(_line(each))
        except OSError as error:
            raise self._unwritable(error) from None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is None:
            return
        try:
            self._file.close()
            self._part.replace(self.path)
        except OSError as problem:
            raise self._unwritable(problem) from None

    def _unwritable(self, error: OSError) -> InvalidInput:
        return InvalidInput(
            "rejects", f"{self.path} cannot be written: {error.strerror}; name another --rejects"
        )


def _line(reject: Reject) -> str:
    why = {"_row": reject.row.number, "_field": reject.field, "_error": reject.problem}
    lost = {} if reject.row.problem is None else {"_text": reject.row.text}
    content = {**reject.row.values, **why, **lost}
    # Values that JSON has not (Parquet's dates, a NaN) were refused: as text they can be mended.
    return json.dumps(_sound(content), ensure_ascii=False, default=str) + "\n"


def _sound(value: object) -> object:
    if isinstance(value, dict):
        return {str(name): _sound(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_sound(part) for part in value]
    # NaN is the one value that is not itself; infinities have no JSON either.
    if isinstance(value, float) and (value != value or value in {float("inf"), float("-inf")}):
        return None
    return value
