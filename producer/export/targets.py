"""Where an export goes: a folder, or a prefix of a bucket. Files appear whole or not at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from typing import IO, Any, Protocol

from jobs.errors import InvalidInput, ObjectNotFound
from jobs.objects import ObjectStore

STATE = "export.json"
_STATE_BYTES = 2**30
_MEDIA_TYPES = {".json": "application/json", ".jsonl": "application/x-ndjson"}


class Target(Protocol):
    """A place for files."""

    where: str

    def read_state(self) -> dict[str, Any] | None:
        """What `write_state` wrote last; None where nothing was."""

    def write_state(self, state: dict[str, Any]) -> None:
        """Remember what is complete."""

    def file(self, name: str) -> Any:
        """A context with a new binary file, which takes its name when the context ends well."""


class FolderTarget:
    """A local folder, made if it is missing."""

    def __init__(self, folder: Path) -> None:
        self.where = str(folder)
        self._folder = folder

    def read_state(self) -> dict[str, Any] | None:
        """The state file's content."""
        try:
            return _state(self.where, (self._folder / STATE).read_bytes())
        except FileNotFoundError:
            return None

    def write_state(self, state: dict[str, Any]) -> None:
        """Replace the state file."""
        with self.file(STATE) as file:
            file.write(json.dumps(state).encode())

    @contextmanager
    def file(self, name: str) -> Iterator[IO[bytes]]:
        """A file beside its place, renamed at the end.

        Raises:
            InvalidInput: the folder cannot be written, or the disk is full.
        """
        path = self._folder / name
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                yield file
                file.flush()
                # Before the state says that it is complete, it is.
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            raise InvalidInput(
                "to",
                f"{path} cannot be written: {error.strerror}; what is complete stays. Make room, "
                "and run the same again to go on",
            ) from None
        finally:
            part.unlink(missing_ok=True)


class BucketTarget:
    """A prefix in the object store."""

    def __init__(self, objects: ObjectStore, prefix: str) -> None:
        self.where = prefix.rstrip("/")
        self._objects = objects
        objects.locate(self._uri(STATE))

    def _uri(self, name: str) -> str:
        return f"{self.where}/{name}"

    def read_state(self) -> dict[str, Any] | None:
        """The state object's content."""
        try:
            data = self._objects.read(self._uri(STATE), max_bytes=_STATE_BYTES)
        except ObjectNotFound:
            return None
        return _state(self.where, data)

    def write_state(self, state: dict[str, Any]) -> None:
        """Replace the state object."""
        with self.file(STATE) as file:
            file.write(json.dumps(state).encode())

    @contextmanager
    def file(self, name: str) -> Iterator[IO[bytes]]:
        """A temporary file, uploaded at the end."""
        with TemporaryFile() as file:
            yield file
            file.seek(0)
            media_type = _MEDIA_TYPES.get(PurePosixPath(name).suffix, "application/octet-stream")
            self._objects.upload(self._uri(name), file, media_type)


def open_target(where: str, objects: ObjectStore) -> Target:
    """The folder or prefix of that name.

    Raises:
        InvalidInput: a bucket that may not be used.
    """
    if where.startswith("s3://"):
        return BucketTarget(objects, where)
    return FolderTarget(Path(where))


def _state(where: str, data: bytes) -> dict[str, Any]:
    try:
        state = json.loads(data)
        if isinstance(state, dict) and isinstance(state["parts"], list):
            return state
    except (ValueError, KeyError, RecursionError):
        pass
    raise InvalidInput("to", f"{where}/{STATE} is none of ours; export to another place")
