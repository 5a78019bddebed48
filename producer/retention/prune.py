"""Pruning: off the rows first, then out of the bucket.

The rows' part is one transaction (see `jobs.store.retaining`), so at no moment does a row speak of
an object that was deleted; what a killed run leaves is in the outbox, and the next run goes on
there. Two runs at once do the same thing twice, which is harmless.

An inversion is shared, and a job that runs may be about to speak of it. So its entry waits until no
job of its kind is live; and once it is deleted, the entry stays until none is again, and takes the
inversion off rows that were written in between.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

import structlog

from jobs.objects import ObjectStore
from jobs.retention import Deletion, What
from jobs.store import JobStore
from jobs.store.base import utc_now

CHUNK = 500
"""Rows in one transaction; entries of the outbox that are looked at together."""

DELETES = 8
"""Objects deleted at once."""

SOURCE_REST = timedelta(days=1)
"""A source stays this long after it was last submitted: its jobs may be about to be committed."""

DEAD_WORKERS_KEPT = timedelta(days=7)
"""How long the list of workers tells of those that were killed."""

SOURCES = "sources/"

_log = structlog.get_logger()


@dataclass
class Pruned:
    """What a run did."""

    results: int = 0
    """Jobs that lost their results."""
    latents: int = 0
    """Jobs that lost their stored inversion."""
    rows: int = 0
    objects: int = 0
    """Deleted from the bucket."""


class Pruner:
    """Carries the policies out; `stop` ends a run early, between two chunks."""

    def __init__(
        self,
        store: JobStore,
        objects: ObjectStore,
        stop: threading.Event,
        *,
        chunk: int = CHUNK,
        source_rest: timedelta = SOURCE_REST,
    ) -> None:
        self._store = store
        self._objects = objects
        self._stop = stop
        self._chunk = chunk
        self._source_rest = source_rest

    def run(self) -> Pruned:
        """Prune all that is due.

        Raises:
            AccessDenied, ServiceUnavailable: the object store; the next run goes on from there.
        """
        done = Pruned()
        done.results = self._strip(What.RESULTS)
        done.latents = self._strip(What.LATENTS)
        done.rows = self._delete_rows()
        done.objects = self._empty_outbox()
        self._store.forget_workers(unseen_for=DEAD_WORKERS_KEPT)
        if done != Pruned():
            _log.info("pruned", **vars(done))
        return done

    def _strip(self, what: What) -> int:
        return self._repeat(lambda: len(self._store.strip_due(what, limit=self._chunk)))

    def _delete_rows(self) -> int:
        ours = self._objects.uri(SOURCES)
        return self._repeat(lambda: self._store.delete_due(sources=ours, limit=self._chunk))

    def _repeat(self, step: Callable[[], int]) -> int:
        total = 0
        while not self._stop.is_set() and (count := step()):
            total += count
        return total

    def _empty_outbox(self) -> int:
        deleted = 0
        for entries in self._outbox():
            inversions = [each for each in entries if each.digests]
            others = [each.key for each in entries if not each.digests]
            sources = [key for key in others if key.startswith(SOURCES)]
            deleted += self._delete([key for key in others if key not in sources])
            deleted += self._delete_sources(sources)
            deleted += self._delete_inversions(inversions)
        return deleted

    def _outbox(self) -> Iterator[list[Deletion]]:
        after = ""
        while not self._stop.is_set():
            entries = self._store.deletions(after=after, limit=self._chunk)
            if not entries:
                return
            yield entries
            after = entries[-1].key

    def _delete(self, keys: Sequence[str]) -> int:
        """Delete objects that nobody can want again, and strike their entries."""
        self._remove(keys)
        self._store.forget_deletions(keys)
        return len(keys)

    def _remove(self, keys: Sequence[str]) -> None:
        with ThreadPoolExecutor(DELETES) as pool:
            list(pool.map(self._objects.delete, keys))

    def _delete_inversions(self, entries: Sequence[Deletion]) -> int:
        digests = [digest for each in entries for digest in each.digests]
        live, named = self._store.users_of(digests, [each.key for each in entries])
        quiet = [each for each in entries if not live.intersection(each.digests)]
        shared = [each for each in quiet if each.key in named]
        for each in shared:
            # Deleted while a job used it, or by a run that was killed before it could note it.
            if self._objects.size(each.key) is None:
                self._store.strip_key(each.key, each.digests)
        unnamed = [each for each in quiet if each.key not in named]
        gone = [each.key for each in unnamed if each.deleted_at is None]
        self._remove(gone)
        self._store.note_deleted(gone)
        settled = [each.key for each in unnamed if each.deleted_at is not None]
        # Where the last job that shares an inversion is due, there will be a new entry.
        self._store.forget_deletions([*settled, *(each.key for each in shared)])
        return len(gone)

    def _delete_sources(self, keys: Sequence[str]) -> int:
        if not keys:
            return 0
        wanted = self._store.sources_named([self._objects.uri(key) for key in keys])
        unnamed = [key for key in keys if self._objects.uri(key) not in wanted]
        self._store.forget_deletions([key for key in keys if key not in unnamed])
        rested = [key for key in unnamed if self._rested(key)]
        # Before they go: manifests would take it that they are there.
        self._store.forget_sources([self._objects.uri(key) for key in rested])
        return self._delete(rested)

    def _rested(self, key: str) -> bool:
        written = self._objects.modified_at(key)
        return written is None or written <= utc_now() - self._source_rest
