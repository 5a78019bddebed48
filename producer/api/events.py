"""A batch's life as server-sent events, at least once each.

The id of an event is the moment of a job's end. Ends are written by the clocks of many workers and
become visible a little later, so that one may appear before others that were told already. Each
look therefore goes back a little, and leaves out what this listener was told; a listener that comes
back is told the last moments again, rather than never of what appeared in between.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import UUID

from starlette.concurrency import iterate_in_threadpool, run_in_threadpool

from jobs.errors import InvalidInput
from jobs.records import Job
from jobs.states import LIVE, State
from jobs.store import JobStore
from producer.plain import moment

LOOK_SECONDS = 1.0
QUIET_LOOKS = 15
"""After so many looks without news a comment is sent, so that proxies keep the connection."""

UNCHANGED_LOOKS = 5
"""After so many looks, ends are read though the counts are the same."""

KEY_SECONDS = 5.0
"""How long a stream may go on after its key has ended."""

OVERLAP = timedelta(seconds=30)
"""How much later than its own time an end may become visible."""

PAGE = 500
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OVER = "-end"
_DIGITS = 18
"""Of the last microsecond of the year 9999."""


@dataclass(frozen=True)
class Place:
    """How far a listener has come."""

    at: datetime
    over: bool = False
    """Whether it was told of the batch's end."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an event's id.

        Raises:
            InvalidInput: it is none of ours.
        """
        digits = text.removesuffix(_OVER)
        if digits.isascii() and digits.isdecimal() and len(digits) <= _DIGITS:
            with suppress(OverflowError):
                at = _EPOCH + timedelta(microseconds=int(digits))
                return cls(at, text.endswith(_OVER))
        raise InvalidInput("Last-Event-ID", f"{text!r:.80} is no event's id")

    def __str__(self) -> str:
        digits = (self.at - _EPOCH) // timedelta(microseconds=1)
        return f"{digits}{_OVER if self.over else ''}"


class Ends:
    """The ends of a batch's jobs, each once, from a place on (None: from the first)."""

    def __init__(self, store: JobStore, batch_id: UUID, place: Place | None) -> None:
        self._store = store
        self._batch_id = batch_id
        self._last = place.at if place else None
        self._told: dict[tuple[UUID, datetime], None] = {}

    @property
    def last(self) -> datetime:
        """The latest end that was told."""
        return self._last or _EPOCH

    def new(self) -> Iterator[Job]:
        """Those that were not told yet, in the order of their times."""
        since = None if self._last is None else self._last - OVERLAP
        after: UUID | None = None
        while True:
            page = self._store.ends_of(self._batch_id, since, after, PAGE)
            for job in page:
                assert job.finished_at is not None  # noqa: S101 - the query asks for it
                key = (job.id, job.finished_at)
                if key not in self._told:
                    self._told[key] = None
                    self._last = max(self.last, job.finished_at)
                    yield job
                since, after = job.finished_at, job.id
            if len(page) < PAGE:
                break
        self._told = {key: None for key in self._told if key[1] >= self.last - OVERLAP}

    def nothing_left(self) -> bool:
        """Whether nothing is live, and nothing ended since the place."""
        counts = self._store.counts(self._batch_id)
        behind = self._store.ends_of(self._batch_id, self.last, _LAST_ID, 1)
        return not behind and not any(counts[state] for state in LIVE)


class SharedCounts:
    """Counts of batches, read once for all who listen to a batch in the same moment."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._reading: dict[UUID, tuple[float, asyncio.Task[dict[State, int]]]] = {}

    async def of(self, batch_id: UUID) -> dict[State, int]:
        """A batch's counts, half a look old at most."""
        now = asyncio.get_running_loop().time()
        oldest = now - LOOK_SECONDS / 2
        if self._reading.get(batch_id, (oldest, None))[0] <= oldest:
            self._reading = {key: each for key, each in self._reading.items() if each[0] > oldest}
            reading = asyncio.create_task(run_in_threadpool(self._store.counts, batch_id))
            self._reading[batch_id] = (now, reading)
        # A listener that goes away takes nobody's answer along.
        return await asyncio.shield(self._reading[batch_id][1])


class Permission:
    """Whether a listener may still listen: streams last longer than keys may."""

    def __init__(self, is_live: Callable[[], bool]) -> None:
        self._is_live = is_live
        self._looked = time.monotonic()

    async def holds(self) -> bool:
        """Whether its key opened the stream within the last seconds."""
        if time.monotonic() - self._looked < KEY_SECONDS:
            return True
        self._looked = time.monotonic()
        return await run_in_threadpool(self._is_live)


async def events(
    shared: SharedCounts, batch_id: UUID, ends: Ends, permission: Permission
) -> AsyncIterator[str]:
    """The text of the stream, until the batch has ended or the listener's key has."""
    yield "retry: 2000\n\n"
    shown: dict[State, int] | None = None
    quiet = 0
    while await permission.holds():
        # Counted before the ends are read: then every end that is counted is told.
        counts = await shared.of(batch_id)
        # A job that fails, is retried and fails again within a look leaves the counts as they were.
        if counts != shown or quiet % UNCHANGED_LOOKS == 0:
            async for job in iterate_in_threadpool(ends.new()):
                if not await permission.holds():
                    return
                quiet = 0
                yield event("job", _job(job), Place(job.finished_at or _EPOCH))
        quiet += 1
        if counts != shown:
            shown, quiet = counts, 0
            yield event("progress", {state.value: count for state, count in counts.items()})
        if not any(counts[state] for state in LIVE):
            yield event("end", {"batch": str(batch_id)}, Place(ends.last, over=True))
            return
        if quiet >= QUIET_LOOKS:
            quiet = 0
            yield ": still here\n\n"
        await asyncio.sleep(LOOK_SECONDS)


def event(name: str, data: dict[str, Any], place: Place | None = None) -> str:
    """One event as the stream's text."""
    head = "" if place is None else f"id: {place}\n"
    return f"{head}event: {name}\ndata: {json.dumps(data)}\n\n"


def _job(job: Job) -> dict[str, Any]:
    failed = {"code": job.error_code, "message": job.error_message}
    return {
        "id": str(job.id),
        "kind": job.kind,
        "state": job.state.value,
        "finished": moment(job.finished_at),
        "error": failed if job.error_code else None,
    }


_LAST_ID = UUID(int=2**128 - 1)
