"""Manifests as streams of bytes: local or in the object store, compressed or not."""

import gzip
import io
from pathlib import Path
from typing import IO, Any, cast

from jobs.errors import ConfigurationError, InvalidInput
from jobs.objects import ObjectInfo, ObjectStore

PART_BYTES = 4 * 2**20
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
COMPRESSED = (".gz", ".zst")


class ObjectFile(io.RawIOBase):
    """An object as a seekable file, read in parts; wrap it into a `BufferedReader`."""

    def __init__(self, objects: ObjectStore, info: ObjectInfo) -> None:
        self._objects = objects
        self._info = info
        self._at = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; nothing is read."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._info.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read a part of the object."""
        view = memoryview(buffer).cast("B")
        data = self._objects.read_part(self._info, self._at, len(view))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


def open_file(where: str, objects: ObjectStore) -> IO[bytes]:
    """Open a local file or an object, as its bytes are.

    Raises:
        InvalidInput: there is no such file, or a bucket that may not be read.
        ObjectNotFound, AccessDenied, ServiceUnavailable: what the object store answered.
    """
    if where.startswith("s3://"):
        raw = ObjectFile(objects, objects.look(where))
        return cast("IO[bytes]", io.BufferedReader(raw, PART_BYTES))
    try:
        return Path(where).open("rb")
    except OSError as error:
        raise InvalidInput("manifest", f"{where} cannot be read: {error.strerror}") from None


def decompressed(stream: IO[bytes]) -> IO[bytes]:
    """The text of a stream that may be gzip or zstd, told by its first bytes.

    Raises:
        InvalidInput: it is UTF-16, as spreadsheets write "Unicode text".
    """
    head = stream.read(4)
    stream.seek(0)
    if head.startswith(_UTF_16):
        raise InvalidInput("manifest", "is UTF-16; save it as UTF-8")
    if head.startswith(_GZIP):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
    if head == _ZSTD:
        return cast("IO[bytes]", io.BufferedReader(_zstd(stream), PART_BYTES))
    return stream


def _zstd(stream: IO[bytes]) -> Any:
    return arrow().CompressedInputStream(arrow().PythonFile(stream, "r"), "zstd")


def arrow() -> Any:
    """pyarrow, which Parquet and zstd need.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ConfigurationError(
            "Parquet and zstd need pyarrow, which is not installed; run pip install 'edict[bulk]'"
        ) from None
    return pyarrow
