"""The course of an export: the batch's jobs in ranges of ids, one part for each range.

A part that is complete is kept as long as its jobs and their results are the same. One whose jobs
have finished since is written anew; one whose jobs were pruned since is kept as it is. A result
that cannot be read is left out and counted, and its part is tried again by the next call.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count, islice
from typing import Any
from uuid import UUID

from jobs.errors import AccessDenied, InvalidInput, NotFound
from jobs.gates import Condition
from jobs.keys import sha256
from jobs.marks import Verdict
from jobs.objects import ObjectStore
from jobs.records import Batch, Job
from jobs.specs import digest_of
from jobs.states import State
from jobs.store import JobStore
from producer.export.formats import FORMATS, Record
from producer.export.targets import Target

PART_JOBS = 1_000
READS = 8
SHOWN = 20


class Flagged(StrEnum):
    """What becomes of results that fall short of the batch's gate (`jobs.gates`)."""

    WITHOUT = "without"
    """They are kept apart."""
    WITH = "with"
    """They go too; their metadata says so."""
    ONLY = "only"
    """They go, and nothing else."""


@dataclass
class ExportReport:
    """What an export came to."""

    written: int = 0
    """Results in parts that were written."""
    kept: int = 0
    """Results in parts that were complete before."""
    left_out: int = 0
    """Jobs that have not succeeded, have no image, or are not as asked."""
    flagged: int = 0
    """Of those: results that would go but for the batch's gate."""
    missing: list[str] = field(default_factory=list)
    """The first results that could not be read, and why."""
    missing_count: int = 0
    closed: list[str] = field(default_factory=list)
    """Parts that hold results which were pruned since, and so stay as they are though there is more
    to say: what has come to their jobs since is in no part."""


@dataclass(frozen=True)
class _Part:
    """A range of the batch's jobs, and what of it was written."""

    name: str
    after: str | None
    until: str
    results: int
    signature: str
    missing: int = 0


class _Export:
    def __init__(
        self,
        store: JobStore,
        objects: ObjectStore,
        batch: Batch,
        target: Target,
        form: str,
        filters: Sequence[Condition],
        max_bytes: int,
        flagged: Flagged,
        *,
        approved: bool,
    ) -> None:
        self._flagged = flagged
        self._store = store
        self._objects = objects
        self._batch = batch
        self._target = target
        self._format = FORMATS[form]
        self._filters = filters
        self._max_bytes = max_bytes
        self._approved = approved
        self._wish: dict[str, Any] = {
            "version": 1,
            "batch": str(batch.id),
            "format": form,
            "where": sorted(each.written for each in filters),
        }
        if flagged is not Flagged.WITHOUT:
            self._wish["flagged"] = flagged.value
        if approved:
            self._wish["approved"] = True
        self.report = ExportReport()

    def run(self, look: Callable[[ExportReport], None]) -> None:
        parts = self._parts_before()
        after: str | None = None
        for index in count():
            before = parts[index] if index < len(parts) else None
            jobs = self._range(after, None if before is None else before.until)
            if before is None and not jobs:
                return
            part = self._part(index, after, jobs, before)
            if part is not before:
                parts[index:] = [part, *parts[index + 1 :]]
                self._target.write_state({**self._wish, "parts": [vars(each) for each in parts]})
            if self._format.images and not part.missing and part.name not in self.report.closed:
                # For "until exported"; parts of before too, should that run have died here.
                self._store.mark_exported([job.id for job in self._chosen(jobs)[0]])
            after = part.until
            look(self.report)

    def _parts_before(self) -> list[_Part]:
        state = self._target.read_state()
        if state is None:
            return []
        wish = {name: value for name, value in state.items() if name != "parts"}
        if wish != self._wish:
            raise InvalidInput(
                "to",
                f"{self._target.where} holds another export ({_wish_text(state)}); export to "
                "another place",
            )
        return [_Part(**part) for part in state["parts"]]

    def _range(self, after: str | None, until: str | None) -> list[Job]:
        """The jobs of a range; without an end, the next part's worth."""
        start = None if after is None else UUID(after)
        if until is None:
            return self._store.page_of(self._batch.id, start, PART_JOBS)
        jobs: list[Job] = []
        while page := self._store.page_of(self._batch.id, start, PART_JOBS, until=UUID(until)):
            jobs += page
            start = page[-1].id
        return jobs

    def _part(self, index: int, after: str | None, jobs: list[Job], before: _Part | None) -> _Part:
        chosen, withheld, flagged = self._chosen(jobs)
        self.report.left_out += len(jobs) - len(chosen)
        self.report.flagged += withheld
        signature = digest_of([(str(job.id), _content(job)) for job in chosen])
        if before is not None and not before.missing:
            same = before.signature == signature
            if same or self._was_pruned(jobs, len(chosen) + withheld, before):
                self.report.kept += before.results
                self.report.closed += [] if same else [before.name]
                return before
        missing_before = self.report.missing_count
        name = f"part-{index:06}"
        if chosen:
            self._format.write(name, self._records(chosen, flagged), self._target)
        missing = self.report.missing_count - missing_before
        self.report.written += len(chosen) - missing
        until = str(jobs[-1].id) if before is None else before.until
        return _Part(name, after, until, len(chosen) - missing, signature, missing)

    def _was_pruned(self, jobs: Sequence[Job], there: int, before: _Part) -> bool:
        """Whether the part may hold the only copy of something: it must not be written anew."""
        # A verdict may be taken back: then fewer are wanted, and none is pruned.
        fewer = there < before.results and not self._approved
        results = [job.result for job in jobs if job.unreadable is None]
        gone = any(result is not None and "image" in result.pruned for result in results)
        return fewer or (self._format.images and gone)

    def _chosen(self, jobs: Sequence[Job]) -> tuple[list[Job], int, frozenset[UUID]]:
        """The jobs that go; how many are held back for the gate alone; which are flagged."""
        wanted = self._approved_of([job for job in jobs if self._is_wanted(job)])
        flagged = self._store.flagged_among(self._batch.id, [job.id for job in wanted])
        if self._flagged is Flagged.WITH:
            return wanted, 0, flagged
        only = self._flagged is Flagged.ONLY
        chosen = [job for job in wanted if (job.id in flagged) == only]
        return chosen, 0 if only else len(wanted) - len(chosen), flagged

    def _approved_of(self, jobs: list[Job]) -> list[Job]:
        if not self._approved:
            return jobs
        marks = self._store.marks_of([job.id for job in jobs])
        return [job for job in jobs if marks.get(job.id) is Verdict.APPROVED]

    def _is_wanted(self, job: Job) -> bool:
        # Another version's job is left out, and hides no other.
        if job.state != State.SUCCEEDED or job.unreadable is not None or job.result is None:
            return False
        if self._format.images and "image" not in job.result.outputs:
            return False
        return all(each.holds(job.result) for each in self._filters)

    def _records(self, jobs: Sequence[Job], flagged: frozenset[UUID]) -> Iterator[Record]:
        """The jobs with their images, a few ahead of the one that is written."""
        if not self._format.images:
            yield from (Record(job, None, None, job.id in flagged) for job in jobs)
            return
        rest = iter(jobs)
        with ThreadPoolExecutor(READS) as pool:
            while window := list(islice(rest, 2 * READS)):
                # Edits of one image stand together: it is read once.
                uris = list(dict.fromkeys(job.spec.source.uri for job in window))
                originals = dict(zip(uris, pool.map(self._original, uris), strict=True))
                edited = pool.map(self._edited, window)
                for job, image in zip(window, edited, strict=True):
                    original = originals[job.spec.source.uri]
                    if isinstance(image, str) or isinstance(original, str):
                        self._miss(job, image if isinstance(image, str) else str(original))
                    else:
                        yield Record(job, original, image, job.id in flagged)

    def _original(self, uri: str) -> bytes | str:
        return self._read(uri)

    def _edited(self, job: Job) -> bytes | str:
        output = job.result.outputs["image"] if job.result else None
        assert output is not None  # noqa: S101 - see `_is_wanted`
        data = self._read(self._objects.uri(output.key))
        if isinstance(data, bytes) and sha256(data) != output.sha256:
            return f"{output.key} has other bytes than the job wrote"
        return data

    def _read(self, uri: str) -> bytes | str:
        try:
            return self._objects.read(uri, max_bytes=self._max_bytes)
        except (NotFound, AccessDenied, InvalidInput) as error:
            return str(error)

    def _miss(self, job: Job, why: str) -> None:
        self.report.missing_count += 1
        if len(self.report.missing) < SHOWN:
            self.report.missing.append(f"{job.id}: {why}")


def _content(job: Job) -> str:
    output = job.result.outputs.get("image") if job.result else None
    return output.sha256 if output else ""


def _wish_text(state: dict[str, Any]) -> str:
    conditions = " ".join(map(str, state.get("where", [])))
    return f"batch {state.get('batch')}, {state.get('format')} {conditions}".strip()


def run_export(
    store: JobStore,
    objects: ObjectStore,
    batch: Batch,
    target: Target,
    form: str,
    filters: Sequence[Condition] = (),
    *,
    max_bytes: int,
    flagged: Flagged = Flagged.WITHOUT,
    approved: bool = False,
    look: Callable[[ExportReport], None] = lambda _: None,
) -> ExportReport:
    """Bring a batch's results to a target; the same call again goes on, or adds what is new.

    With `approved`, only those that somebody marked so when looking at them.

    Raises:
        InvalidInput: the target holds another export or cannot be written; or no such format.
        AccessDenied, ServiceUnavailable: what the object store answered.
    """
    if form not in FORMATS:
        raise InvalidInput("format", f"{form!r} is none of {', '.join(FORMATS)}")
    export = _Export(
        store, objects, batch, target, form, filters, max_bytes, flagged, approved=approved
    )
    export.run(look)
    return export.report
