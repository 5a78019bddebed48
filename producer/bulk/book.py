"""The images of a chunk: each read once in its life, and again only when it has changed.

What was read is remembered in the database with what its place said of it (an object's ETag; a
file's size and time), so that the same manifest again asks for these marks only. The exception are
images of ours that are gone from the bucket: they are read once more, which uploads them.
"""

import socket
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID

from jobs.errors import AccessDenied, InvalidInput, NotFound
from jobs.keys import sha256
from jobs.objects import ObjectStore
from jobs.specs import Source
from jobs.store import JobStore
from jobs.store.sourcing import KnownSource
from producer.bulk.mapping import Wish
from producer.sources import SourceDoor

READS = 16
_HOST = socket.gethostname()


class SourceBook:
    """Finds out what lies at the places that wishes name."""

    def __init__(self, store: JobStore, objects: ObjectStore, door: SourceDoor) -> None:
        self._store = store
        self._objects = objects
        self._door = door
        self._pool = ThreadPoolExecutor(READS, thread_name_prefix="sources")
        self._lost: frozenset[str] = frozenset()
        self.restored = 0
        """Images that were gone from the bucket, and are there again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def look_for_lost(self, batch_id: UUID) -> None:
        """Find out which images are gone that jobs of the batch failed for.

        Raises:
            ServiceUnavailable: the object store does not answer.
        """
        uris = sorted(self._store.refused_sources(batch_id))
        there = self._pool.map(self._is_there, uris)
        gone = [uri for uri, is_there in zip(uris, there, strict=True) if not is_there]
        self._lost = self._store.digests_of_places(gone)

    def _is_there(self, uri: str) -> bool:
        try:
            self._objects.look(uri)
        except NotFound:
            return False
        except (AccessDenied, InvalidInput):
            return True  # to upload it again would change nothing
        return True

    def is_lost(self, place: str) -> bool:
        """Whether the image that was read at the place is gone, and not there again yet."""
        return bool(self._lost) and sha256(_name(place).encode()) in self._lost

    def marks(self, wishes: Iterable[Wish]) -> dict[str, str | InvalidInput]:
        """What each place says of its content now; or what is wrong with it.

        Places whose content the row vouches for are left out.

        Raises:
            ServiceUnavailable: the object store does not answer.
        """
        given: dict[str, str | None] = {}
        for wish in wishes:
            if not vouched(wish):
                given[wish.place] = wish.row.mark
            if wish.mask is not None:
                given.setdefault(wish.mask, None)
        unknown = [place for place, mark in given.items() if mark is None]
        found = zip(unknown, self._pool.map(self._mark, unknown), strict=True)
        return {place: mark for place, mark in given.items() if mark is not None} | dict(found)

    def _mark(self, place: str) -> str | InvalidInput:
        try:
            if place.startswith("s3://"):
                return self._objects.look(place).etag
            status = Path(place).stat()
        except InvalidInput as error:
            return InvalidInput("image", error.problem)
        except (NotFound, AccessDenied) as error:
            return InvalidInput("image", str(error))
        except OSError as error:
            return InvalidInput("image", f"{place} cannot be read: {error.strerror}")
        return f"{status.st_size}-{status.st_mtime_ns}"

    def sources(self, marks: Mapping[str, str | InvalidInput]) -> dict[str, Source | InvalidInput]:
        """The images at the places: remembered where the mark is the same, else read and checked.

        Raises:
            ServiceUnavailable: the object store does not answer.
        """
        sources: dict[str, Source | InvalidInput] = {
            place: mark for place, mark in marks.items() if isinstance(mark, InvalidInput)
        }
        good = {place: mark for place, mark in marks.items() if isinstance(mark, str)}
        known = self._store.known_sources([_name(place) for place in good]) if good else {}
        for place, mark in good.items():
            found = known.get(_name(place))
            if found is not None and found.mark == mark and not self.is_lost(place):
                sources[place] = found.source
        new = [place for place in good if place not in sources]
        sources |= dict(zip(new, self._pool.map(self._read, new), strict=True))
        self._note_restored(place for place in new if isinstance(sources[place], Source))
        self._store.remember_sources(
            {
                _name(place): KnownSource(good[place], source)
                for place in new
                if isinstance(source := sources[place], Source)
            }
        )
        return sources

    def _note_restored(self, places: Iterable[str]) -> None:
        back = {sha256(_name(place).encode()) for place in places if self.is_lost(place)}
        self._lost -= back
        self.restored += len(back)

    def vouched_source(self, wish: Wish) -> Source | InvalidInput:
        """The image of a row that says its digest."""
        try:
            self._objects.locate(wish.place)
            return Source(uri=wish.place, sha256=str(wish.sha256).lower())
        except InvalidInput as error:
            return InvalidInput("image", error.problem)
        except ValueError:
            return InvalidInput(
                "sha256", f"is {wish.sha256!r:.80}; give 64 hexadecimal digits, or leave it out"
            )

    def _read(self, place: str) -> Source | InvalidInput:
        try:
            return self._door.admit(place)
        except InvalidInput as error:
            return InvalidInput("image", error.problem)
        except (NotFound, AccessDenied) as error:
            return InvalidInput("image", str(error))


def vouched(wish: Wish) -> bool:
    """Whether the row says what the image's bytes are. (Local ones are uploaded all the same.)"""
    return wish.sha256 is not None and wish.place.startswith("s3://")


def _name(place: str) -> str:
    """What the place is called in the database: a path means something on one machine only."""
    return place if place.startswith("s3://") else f"file://{_HOST}{place}"
