"""The course of a submission: every row checked first, then every new chunk committed.

A chunk that the batch has is passed over in both passes: its rows were checked, and its jobs are
committed. Not passed over is one whose images are gone from the bucket: they are uploaded again,
and then the jobs that failed for want of them are tried again.

Nothing is published here: the control process announces what is due, a window at a time, while
later chunks still come in.
"""

import hashlib
import json
import random
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

from jobs.errors import InvalidInput, NotFound
from jobs.gates import parse_gate
from jobs.specs import Source, Spec
from jobs.store import JobStore
from jobs.store.bulk import Loaded
from jobs.store.submitting import check_batch_name
from producer.bulk.book import SourceBook, vouched
from producer.bulk.chunks import Chunk, chunks
from producer.bulk.estimate import Census, Estimate, measured_pace
from producer.bulk.mapping import Plan, Wish, build, understand
from producer.bulk.reading import Manifest
from producer.bulk.rejects import Reject, RejectFile, place_beside
from producer.bulk.rows import RawRow
from producer.client import Client, check_priority

SHOWN_REJECTS = 20
MANY_JOBS = 10_000
"""So many new rows change how the database is to look for others."""


@dataclass(frozen=True)
class BulkOptions:
    """How a manifest is to be submitted."""

    name: str
    """Of the batch, for good: the same name again goes on with it."""
    priority: int = 0
    limit: int | None = None
    """Take the first rows only."""
    sample: int | None = None
    """Take as many rows, chosen by chance, the same at each call."""
    skip_invalid: bool = False
    """Submit the good rows though others are refused."""
    force: bool = False
    """Make new jobs for what was done before."""
    rejects: Path = Path("rejects.jsonl")
    gate: tuple[str, ...] = ()
    """Conditions on figures (`jobs.gates`), the batch's from now on; none: its gate stays."""


@dataclass
class Report:
    """What became of a manifest."""

    rows: int = 0
    refused: int = 0
    rejects: Path | None = None
    """The file that holds the refused rows."""
    first_refused: list[Reject] = field(default_factory=list)
    unused_columns: list[str] = field(default_factory=list)
    passed_over: int = 0
    """Rows of chunks that the batch had already."""
    created: int = 0
    known: int = 0
    """Jobs that were there before, or twice in the manifest."""
    revived: int = 0
    """Failed and cancelled jobs of the batch that are tried again."""
    restored: int = 0
    """Images that were gone from the bucket, and were uploaded again for these."""
    submitted: bool = False
    """False: a dry run, or rows were refused and nothing was submitted."""
    estimate: Estimate | None = None
    """Of a dry run."""


@dataclass(frozen=True)
class _Ready:
    """A chunk's wishes with the marks of their images, and its identity."""

    rows: int
    wishes: list[Wish]
    refused: list[Reject]
    marks: dict[str, str | InvalidInput]
    digest: str


Look = Callable[[Report], None]


class _Bulk:
    """One submission."""

    def __init__(
        self,
        manifest: Manifest,
        plan: Plan,
        options: BulkOptions,
        store: JobStore,
        book: SourceBook,
        look: Look,
    ) -> None:
        self._manifest = manifest
        self._plan = plan
        self._options = options
        self._store = store
        self._book = book
        self._look = look
        self._chosen = _chosen(manifest, plan, options)
        self._rejects = place_beside(options.rejects, manifest.where)
        self._salt = json.dumps(plan.describe(), sort_keys=True).encode()

    def dry_run(self) -> Report:
        report = Report()
        with RejectFile(self._rejects) as rejects, Census(self._store) as census:
            for ready in self._ready(report, None):
                specs, refused = self._specs(ready)
                self._refuse(report, refused, rejects)
                census.add(specs)
            paces = {model: measured_pace(self._store, model) for model in census.models}
            report.estimate = census.estimate(paces)
        return report

    def submit(self) -> Report:
        report = Report()
        with RejectFile(self._rejects) as rejects:
            known = self._known_batch()
            if not self._options.skip_invalid and not self._check(report, known, rejects):
                return report
            batch = self._store.open_batch(self._options.name)
            if self._options.gate:
                self._store.set_gate(batch.id, self._options.gate)
            loaded = Report()
            loaded.unused_columns = report.unused_columns
            self._load(loaded, batch.id, rejects)
        if loaded.passed_over and not self._options.force:
            loaded.revived = self._store.retry_ended(batch.id)
        loaded.restored = self._book.restored
        if loaded.created >= MANY_JOBS:
            self._store.look_at_tables()
        loaded.submitted = True
        return loaded

    def _check(self, report: Report, batch_id: UUID | None, rejects: RejectFile) -> bool:
        """The first pass: every row of every chunk that the batch has not."""
        for ready in self._ready(report, batch_id):
            _, refused = self._specs(ready)
            self._refuse(report, refused, rejects)
            self._look(report)
        return report.refused == 0

    def _known_batch(self) -> UUID | None:
        """The batch, if it is there (nothing is made before all rows are good), and what it lost:
        jobs, and images.
        """
        try:
            batch = self._store.batch(self._options.name)
        except NotFound:
            return None
        self._store.forget_lost_chunks(batch.id)
        self._book.look_for_lost(batch.id)
        return batch.id

    def _load(self, report: Report, batch_id: UUID, rejects: RejectFile) -> None:
        """The second pass. While the database takes chunks, the next one is made ready."""
        pending: deque[Future[Loaded]] = deque()
        writers = self._store.writers
        with ThreadPoolExecutor(writers, thread_name_prefix="chunks") as pool:
            for ready in self._ready(report, batch_id):
                specs, refused = self._specs(ready)
                self._refuse(report, refused, rejects)
                if len(pending) == writers:
                    self._take(report, pending.popleft())
                submitted = pool.submit(
                    self._store.submit_chunk,
                    specs,
                    batch_id=batch_id,
                    # What was refused is to be looked at again.
                    digest=None if refused or self._options.force else ready.digest,
                    priority=self._options.priority,
                    force=self._options.force,
                )
                pending.append(submitted)
            for each in pending:
                self._take(report, each)

    def _take(self, report: Report, written: Future[Loaded]) -> None:
        _count(report, written.result())
        self._look(report)

    def _ready(self, report: Report, batch_id: UUID | None) -> Iterator[_Ready]:
        """The manifest's chunks, less those that the batch has.

        Raises:
            InvalidInput: the manifest has no rows, or a header that cannot be meant.
        """
        for number, chunk in enumerate(chunks(self._rows())):
            if number == 0:
                first = next((row for row in chunk.rows if row.problem is None), None)
                if first is not None:
                    report.unused_columns = self._plan.check_header(_columns_of(chunk.rows))
            report.rows += len(chunk.rows)
            ready = self._understood(chunk)
            if batch_id is not None and self._is_in(ready, batch_id):
                report.passed_over += len(chunk.rows)
                self._look(report)
            else:
                yield ready
        if report.rows == 0:
            raise InvalidInput(
                "manifest", f"{self._manifest.where} holds no rows; give one with images"
            )

    def _is_in(self, ready: _Ready, batch_id: UUID) -> bool:
        if self._options.force or ready.refused or any(map(self._book.is_lost, ready.marks)):
            return False
        return bool(self._store.chunks_in(batch_id, [ready.digest]))

    def _rows(self) -> Iterator[RawRow]:
        rows = self._manifest.read(self._plan.wanted)
        if self._chosen is not None:
            rows = (row for row in rows if row.number in self._chosen)
        return islice(rows, self._options.limit)

    def _understood(self, chunk: Chunk) -> _Ready:
        wishes, refused = [], []
        for row in chunk.rows:
            try:
                wishes.append(understand(row, self._plan, self._manifest.root))
            except InvalidInput as error:
                refused.append(Reject(row, error.field, error.problem))
        marks = self._book.marks(wishes)
        content = hashlib.sha256(self._salt + chunk.digest.encode())
        # Each image's place too: the same relative path means another file under another root.
        for place in sorted(marks):
            content.update(f"\n{place}\n{marks[place]}".encode(errors="replace"))
        return _Ready(len(chunk.rows), wishes, refused, marks, content.hexdigest())

    def _specs(self, ready: _Ready) -> tuple[list[Spec], list[Reject]]:
        """The specs of a chunk, edits of one image together, and the rows that were refused."""
        sources = self._book.sources(ready.marks)
        together: dict[tuple[object, ...], list[Spec]] = {}
        refused = list(ready.refused)
        for wish in ready.wishes:
            try:
                for spec in self._built(wish, sources):
                    key = (spec.source.sha256, spec.base_prompt, id(spec.sampler), id(spec.image))
                    together.setdefault(key, []).append(spec)
            except InvalidInput as error:
                refused.append(Reject(wish.row, error.field, error.problem))
        refused.sort(key=lambda each: each.row.number)
        return [spec for group in together.values() for spec in group], refused

    def _built(self, wish: Wish, sources: dict[str, Source | InvalidInput]) -> list[Spec]:
        found = self._book.vouched_source(wish) if vouched(wish) else sources[wish.place]
        source = _good(found)
        if wish.sha256 is not None and wish.sha256.lower() != source.sha256:
            raise InvalidInput(
                "sha256", f"is {wish.sha256!r:.80}, but the image has {source.sha256}; mend either"
            )
        mask = None if wish.mask is None else _good(sources[wish.mask])
        return build(wish, source, mask)

    def _refuse(self, report: Report, refused: list[Reject], rejects: RejectFile) -> None:
        report.refused += len(refused)
        report.rejects = self._rejects if report.refused else None
        report.first_refused += refused[: SHOWN_REJECTS - len(report.first_refused)]
        rejects.write(refused)


def _columns_of(rows: list[RawRow]) -> dict[str, Any]:
    """All columns that the rows of a chunk have: a JSON line may leave out any."""
    return {name: value for row in rows for name, value in row.values.items()}


def _good(source: Source | InvalidInput) -> Source:
    if isinstance(source, InvalidInput):
        raise source
    return source


def _count(report: Report, loaded: Loaded) -> None:
    report.created += loaded.created
    report.known += loaded.known


def _chosen(manifest: Manifest, plan: Plan, options: BulkOptions) -> frozenset[int] | None:
    """The numbers of a sample's rows; None: all."""
    if options.sample is None:
        return None
    total = sum(1 for _ in manifest.read(plan.wanted[:1]))
    chance = random.Random(total)  # noqa: S311 - the same sample at each call is the purpose
    return frozenset(chance.sample(range(1, total + 1), min(options.sample, total)))


def run_bulk(
    client: Client,
    manifest: Manifest,
    plan: Plan,
    options: BulkOptions,
    *,
    dry_run: bool = False,
    look: Look = lambda _: None,
) -> Report:
    """Submit a manifest, or only say what that would mean; `look` is shown how far it is.

    Raises:
        InvalidInput: the manifest as a whole cannot be meant; nothing was submitted.
        ServiceUnavailable: a service does not answer; the same call again goes on from there.
    """
    check_batch_name(options.name)
    check_priority(options.priority)
    parse_gate(options.gate)
    client.check_webhooks(client.settings.webhook_url)
    with SourceBook(client.store, client.objects, client.sources) as book:
        bulk = _Bulk(manifest, plan, options, client.store, book, look)
        if dry_run:
            return bulk.dry_run()
        report = bulk.submit()
    if report.submitted:
        client.subscribe_to_settings(client.store.batch(options.name).id)
    return report
