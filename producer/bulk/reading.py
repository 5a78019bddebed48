"""Manifests as rows: JSON lines, CSV, Parquet, or all images of a folder or bucket prefix.

A row that cannot be read becomes a `RawRow` with its problem, and the next one is read. What breaks
the file as a whole (a compressed stream that ends early, a header that is none) raises.
"""

import csv
import io
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from jobs.errors import InvalidInput
from jobs.objects import ObjectStore
from producer.bulk.folders import read_folder, read_prefix
from producer.bulk.json_text import JsonRefused, parse_json
from producer.bulk.places import Root
from producer.bulk.rows import MAX_ROW_BYTES, RawRow, check_columns
from producer.bulk.streams import COMPRESSED, arrow, decompressed, open_file

PARQUET_ROWS = 1_024
SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
Read = Callable[[Sequence[str]], Iterator[RawRow]]
"""Rows, given the columns that are of interest (a reader may give more)."""


@dataclass(frozen=True)
class Manifest:
    """Where rows come from; they may be read several times."""

    where: str
    read: Read
    root: Root
    """What relative paths of images start from, and must stay in."""


def open_manifest(where: str, objects: ObjectStore, *, root: str | None = None) -> Manifest:
    """Find out what is there. Relative images lie beside the manifest unless `root` says where.

    Raises:
        InvalidInput: there is nothing, or of a kind that is not read; a bucket that may not be.
        ObjectNotFound, AccessDenied, ServiceUnavailable: what the object store answered.
    """
    remote = where.startswith("s3://")
    if (remote and where.endswith("/")) or (not remote and Path(where).is_dir()):
        base = Root.of(where)
        if remote:
            objects.locate(where + "x")
            return Manifest(where, lambda wanted: read_prefix(objects, where, wanted), base)
        return Manifest(where, lambda wanted: read_folder(Path(where), wanted), base)
    kind = _kind(where)
    parent = where.rpartition("/")[0] if remote else str(Path(where).absolute().parent)
    with open_file(where, objects):
        pass

    def read(wanted: Sequence[str]) -> Iterator[RawRow]:
        with open_file(where, objects) as stream:
            yield from _guarded(where, _READERS[kind](stream, wanted))

    return Manifest(where, read, Root.of(root or parent))


def _kind(where: str) -> str:
    name = where.lower()
    for suffix in COMPRESSED:
        name = name.removesuffix(suffix)
    kind = SUFFIXES.get(f".{name.rpartition('.')[2]}")
    if kind is None:
        raise InvalidInput(
            "manifest",
            f"{where} is of no kind that is read: give {', '.join(SUFFIXES)} (with .gz or .zst if "
            "compressed), a folder, or a prefix that ends in /",
        )
    return kind


def _guarded(where: str, rows: Iterator[RawRow]) -> Iterator[RawRow]:
    """Errors of the file as a whole, in the words of the door."""
    try:
        yield from rows
    except (EOFError, zlib.error, OSError, csv.Error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InvalidInput(
            "manifest", f"{where} is damaged or cut short ({error}); make or copy it again"
        ) from None


def read_jsonl(stream: IO[bytes], _wanted: Sequence[str] = ()) -> Iterator[RawRow]:
    """One JSON object a line; blank lines are none."""
    content = decompressed(stream)
    number = 0
    while line := content.readline(MAX_ROW_BYTES):
        whole = line.endswith(b"\n")
        long = len(line) == MAX_ROW_BYTES and not whole
        while long and (rest := content.readline(MAX_ROW_BYTES)) and not rest.endswith(b"\n"):
            pass
        if number == 0:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            number += 1
            yield _too_long(number, line) if long else _json_row(number, line, whole=whole)


def _too_long(number: int, line: bytes) -> RawRow:
    text = line[:200].decode(errors="replace")
    return RawRow(number, problem=f"is over {MAX_ROW_BYTES} bytes long; split it", text=text)


def _json_row(number: int, line: bytes, *, whole: bool) -> RawRow:
    text = line.decode(errors="replace").rstrip("\r\n")
    try:
        values = parse_json(line.decode())
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 at byte {error.start + 1}; convert the manifest to UTF-8"
    except JsonRefused as error:
        problem = str(error)
    except json.JSONDecodeError as error:
        cut = "" if whole else ". It is the last and has no end: was the file cut short?"
        problem = f"is no JSON object ({error}){cut}"
    else:
        if isinstance(values, dict):
            return _checked(number, values, text)
        problem = f"is {text:.60}, no JSON object; give {{…}} with a name for each value"
    return RawRow(number, problem=problem, text=text)


def _checked(number: int, values: dict[str, Any], text: str) -> RawRow:
    # What a file of refused rows says of each is not the row's.
    kept = {name: value for name, value in values.items() if not name.startswith("_")}
    try:
        check_columns(list(kept))
    except InvalidInput as error:
        return RawRow(number, problem=error.problem, text=text)
    return RawRow(number, kept)


def read_csv(
    stream: IO[bytes], _wanted: Sequence[str] = (), *, mark: str = ","
) -> Iterator[RawRow]:
    """Comma-separated values with a header; an empty cell is a value that is not given."""
    # Bytes that are no UTF-8 are kept, so that their row can be named and the next one read.
    text = io.TextIOWrapper(
        decompressed(stream), encoding="utf-8-sig", errors="surrogateescape", newline=""
    )
    try:
        yield from _csv_rows(csv.reader(text, delimiter=mark, strict=True), mark)
    finally:
        # The stream is closed by whoever opened it.
        text.detach()


def _csv_rows(lines: Iterator[list[str]], mark: str) -> Iterator[RawRow]:
    try:
        header = next(lines, None)
    except csv.Error as error:
        raise InvalidInput("manifest", f"has no readable header: {error}") from None
    if header is None:
        return
    check_columns(header)
    number = 0
    while True:
        try:
            cells = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            number += 1
            yield RawRow(number, problem=f"is no CSV ({error}); look at its quotes")
            continue
        if cells:
            number += 1
            yield _csv_row(number, header, cells, mark)


def _csv_row(number: int, header: Sequence[str], cells: Sequence[str], mark: str) -> RawRow:
    problem = None
    text = mark.join(cells)
    if len(cells) != len(header):
        problem = (
            f"has {len(cells)} cells and the header {len(header)}; quote texts that hold {mark!r}"
        )
    elif not text.isprintable() and any("\udc80" <= letter <= "\udcff" for letter in text):
        problem = "is not UTF-8; convert the manifest to UTF-8"
    if problem is not None:
        shown = text.encode("utf-8", "surrogateescape").decode(errors="replace")
        return RawRow(number, problem=problem, text=shown)
    return RawRow(number, {name: cell for name, cell in zip(header, cells, strict=True) if cell})


def read_parquet(stream: IO[bytes], wanted: Sequence[str] = ()) -> Iterator[RawRow]:
    """Row groups in pieces, and of the columns only those that are of interest."""
    pa = arrow()
    try:
        file = pa.parquet.ParquetFile(stream, pre_buffer=False, buffer_size=2**20)
        names = file.schema_arrow.names
        check_columns(names)
        chosen = [name for name in names if name in set(wanted)] if wanted else names
        number = 0
        for batch in file.iter_batches(PARQUET_ROWS, columns=chosen or names[:1]):
            for values in batch.to_pylist():
                number += 1
                yield RawRow(number, {k: v for k, v in values.items() if v is not None})
    except pa.ArrowInvalid as error:
        raise InvalidInput(
            "manifest", f"is no whole Parquet file ({str(error).splitlines()[0]}); copy it again"
        ) from None


def _read_tsv(stream: IO[bytes], wanted: Sequence[str] = ()) -> Iterator[RawRow]:
    return read_csv(stream, wanted, mark="\t")


_READERS: dict[str, Callable[[IO[bytes], Sequence[str]], Iterator[RawRow]]] = {
    "jsonl": read_jsonl,
    "csv": read_csv,
    "tsv": _read_tsv,
    "parquet": read_parquet,
}
