"""Where a manifest is cut.

A cut follows rows of a certain content, not every so many rows: a row that is inserted or removed
changes its own chunk, and all others are found again by their digests.
"""

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from producer.bulk.rows import RawRow

MEAN_ROWS = 256
MAX_ROWS = 1_024


@dataclass(frozen=True)
class Chunk:
    """Rows that are checked and committed together, and their content as digested so far."""

    rows: list[RawRow]
    digest: str


def chunks(rows: Iterable[RawRow]) -> Iterator[Chunk]:
    """Cut rows into chunks of at most `MAX_ROWS`."""
    taken: list[RawRow] = []
    content = hashlib.sha256()
    for row in rows:
        line = written(row)
        taken.append(row)
        content.update(line)
        if len(taken) == MAX_ROWS or zlib.crc32(line) % MEAN_ROWS == 0:
            yield Chunk(taken, content.hexdigest())
            taken, content = [], hashlib.sha256()
    if taken:
        yield Chunk(taken, content.hexdigest())


def written(row: RawRow) -> bytes:
    """The row's content as bytes; the same content gives the same bytes."""
    content = row.text if row.problem is not None else row.values
    # default: Parquet has dates and numbers that JSON has not; they are refused where they matter.
    return json.dumps(content, sort_keys=True, default=str).encode() + b"\n"
