"""A firing: look at every image of the source, submit what is due, remember it.

A control process may be killed anywhere here. Whoever takes over finds in the schedule's memory
what was done, and what was submitted but not yet remembered is the same job when it is submitted
again: its digest says so, and the batch's name follows from the firing.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

import structlog
from sqlalchemy.exc import SQLAlchemyError

from jobs.errors import JobsError, LeaseLost, ServiceUnavailable
from jobs.records import Batch, Submission
from jobs.schedules import FiringClaim, Item, Reason, Schedule
from jobs.settings import parse_model
from jobs.specs import ModelRef, Spec
from jobs.states import State
from producer.admission import Row, admit, edit_rows
from producer.client import Client
from producer.schedules.choosing import item_of, reasons_for, seen
from producer.schedules.listing import SourceRow, list_rows

CHUNK = 50
"""Images that are submitted, and remembered, together."""

MAX_ATTEMPTS = 10
RETRY_SECONDS = 30.0
MAX_RETRY_SECONDS = 600.0
NAMED_REFUSALS = 3

_log = structlog.get_logger()


@dataclass
class _Tally:
    looked_at: int = 0
    refused: list[str] = field(default_factory=list)
    refusals: int = 0

    def refuse(self, reason: str) -> None:
        self.refusals += 1
        if len(self.refused) < NAMED_REFUSALS:
            self.refused.append(reason)

    def note(self) -> str | None:
        more = self.refusals - len(self.refused)
        told = "; ".join(self.refused) + (f"; and {more} more" if more else "")
        return f"refused: {told}" if self.refused else None


class Firer:
    """Works on firings; `stop` makes it leave one to the next process, between two chunks."""

    def __init__(
        self,
        client: Client,
        holder: str,
        stop: threading.Event,
        *,
        lease: float,
        chunk: int = CHUNK,
    ) -> None:
        self._client = client
        self._store = client.store
        self._holder = holder
        self._stop = stop
        self._lease = lease
        self._chunk = chunk

    def fire_one(self) -> bool:
        """Take a firing and work on it to its end; False: there is none."""
        claim = self._store.take_firing(self._holder, lease=self._lease)
        if claim is None:
            return False
        try:
            self._try(claim)
        except LeaseLost as lost:
            _log.warning("firing.lost", firing=str(claim.firing.id), reason=str(lost))
        return True

    def _try(self, claim: FiringClaim) -> None:
        try:
            with self._kept(claim):
                self._fire(claim)
        except LeaseLost:
            raise
        except ServiceUnavailable as error:
            self._later(claim, str(error))
        except JobsError as error:
            self._store.fail_firing(claim, str(error))
            _log.warning("firing.failed", firing=str(claim.firing.id), reason=str(error))

    def _later(self, claim: FiringClaim, reason: str) -> None:
        """Try again when the service may be back, but not for ever."""
        attempt = claim.firing.attempts
        if attempt >= MAX_ATTEMPTS:
            self._store.fail_firing(claim, f"{reason} (attempt {attempt}, the last)")
            return
        delay = min(RETRY_SECONDS * 2 ** (attempt - 1), MAX_RETRY_SECONDS)
        self._store.postpone_firing(claim, delay=delay)
        _log.warning("firing.postponed", firing=str(claim.firing.id), reason=reason, retry_in=delay)

    @contextmanager
    def _kept(self, claim: FiringClaim) -> Iterator[None]:
        """Renew the lease while the work goes on."""
        done = threading.Event()

        def renew() -> None:
            while not done.wait(self._lease / 3):
                try:
                    self._store.renew_firing(claim, lease=self._lease)
                except LeaseLost:
                    # The next thing that is written finds out, and stops the work.
                    return
                except SQLAlchemyError as error:
                    _log.warning("firing.unrenewed", reason=str(error).splitlines()[0])

        thread = threading.Thread(target=renew, name="firing-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _fire(self, claim: FiringClaim) -> None:
        if claim.firing.attempts > MAX_ATTEMPTS:
            self._store.fail_firing(
                claim, f"its control process ended at each of {MAX_ATTEMPTS} attempts; see its log"
            )
            return
        schedule = self._store.schedule(claim.firing.schedule_id)
        revision = self._revision(schedule)
        rows = list_rows(schedule.source, schedule.template, self._client.objects)
        tally = _Tally()
        while chunk := list(islice(rows, self._chunk)):
            if self._stop.is_set():
                self._store.release_firing(claim)
                return
            tally.looked_at += len(chunk)
            self._work(claim, schedule, revision, chunk, tally)
        self._store.end_firing(
            claim, looked_at=tally.looked_at, refused=tally.refusals, note=tally.note()
        )
        _log.info("firing.submitted", schedule=schedule.name, images=tally.looked_at)

    def _revision(self, schedule: Schedule) -> str | None:
        """The revision of the model that jobs made now get: pinned, or the last one seen."""
        model = self._client.model(schedule.template.model)
        if model.revision:
            return model.revision
        workers = [
            each
            for each in self._store.live_workers(seen_within=self._client.settings.lease_seconds)
            if parse_model(each.model)[0] == model.name
        ]
        if not workers:
            return schedule.model_revision
        newest = max(workers, key=lambda each: each.started_at).model_revision
        self._store.note_revision(schedule, newest)
        return newest

    def _work(
        self,
        claim: FiringClaim,
        schedule: Schedule,
        revision: str | None,
        chunk: Sequence[SourceRow],
        tally: _Tally,
    ) -> None:
        items = {row: item_of(row, schedule.template, revision) for row in chunk}
        known = self._store.items(schedule.id, [item.item for item in items.values()])
        chosen: list[tuple[SourceRow, frozenset[Reason]]] = []
        memory: list[Item] = []
        for row, item in items.items():
            before = known.get(item.item)
            reasons = reasons_for(before, item)
            if row.problem:
                tally.refuse(row.problem)
            elif reasons & schedule.reasons:
                chosen.append((row, reasons))
            elif (what := seen(before, item, reasons)) is not None:
                memory.append(what)
        if not chosen:
            self._store.remember(claim, memory)
            return
        taken, specs = self._admit(schedule, chosen, revision, tally)
        batch, submitted = self._submit(claim, schedule, specs, revision)
        self._store.remember(
            claim,
            memory + [items[row] for row in taken],
            batch_id=batch.id if batch else None,
            submitted=submitted,
        )

    def _admit(
        self,
        schedule: Schedule,
        chosen: Sequence[tuple[SourceRow, frozenset[Reason]]],
        revision: str | None,
        tally: _Tally,
    ) -> tuple[list[SourceRow], list[Spec]]:
        """Check the images: those all of whose jobs were accepted, and the jobs' specs."""
        template = schedule.template
        owners: list[SourceRow] = []
        wishes: list[Row] = []
        pinned: list[bool] = []
        for row, reasons in chosen:
            fields = {**template.fields, "base_prompt": row.base}
            made = (
                edit_rows([row.image], row.edits, fields)
                if row.edits
                else [Row(row.image, {**fields, "kind": "inversion"})]
            )
            owners += [row] * len(made)
            wishes += made
            # The same spec but for the model: only its revision makes it another job.
            pinned += [Reason.MODEL in reasons] * len(made)
        model = self._client.model(template.model)
        admission = admit(wishes, self._client.sources, model)
        for refusal in admission.refused:
            tally.refuse(refusal.without_row)
        bad = {owners[refusal.row - 1] for refusal in admission.refused}
        specs = [
            _pinned(spec, revision) if pinned[number - 1] else spec
            for number, spec in admission.accepted
        ]
        return [row for row, _ in chosen if row not in bad], specs

    def _submit(
        self, claim: FiringClaim, schedule: Schedule, specs: list[Spec], revision: str | None
    ) -> tuple[Batch | None, int]:
        if not specs:
            return None, 0
        batch = self._store.open_batch(batch_name(schedule, claim))
        priority = schedule.template.priority
        made = self._client.submit(specs, batch_id=batch.id, priority=priority)
        if revision is not None and Reason.MODEL in schedule.reasons:
            stale = self._made_by_others(specs, made, revision)
            again = [_pinned(spec, revision) for spec in stale]
            self._client.submit(again, batch_id=batch.id, priority=priority)
        return batch, len(specs)

    def _made_by_others(
        self, specs: Sequence[Spec], made: Sequence[Submission], revision: str
    ) -> list[Spec]:
        """Of specs that were done before, on whosever behalf: those by another revision."""
        done = {
            each.job_id: spec
            for spec, each in zip(specs, made, strict=True)
            if not each.created and each.state == State.SUCCEEDED
        }
        revisions = self._store.revisions_of(list(done))
        return [done[job_id] for job_id, by in revisions.items() if by != revision]


def batch_name(schedule: Schedule, claim: FiringClaim) -> str:
    """The name of a firing's batch: the same whoever works on it."""
    due = claim.firing.due_at
    precision = "microseconds" if claim.firing.manual else "minutes"
    return f"{schedule.name} {due.replace(tzinfo=None).isoformat(timespec=precision)}Z"


def _pinned(spec: Spec, revision: str | None) -> Spec:
    return spec.model_copy(update={"model": ModelRef(name=spec.model.name, revision=revision)})
