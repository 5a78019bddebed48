"""What pages show, read for one request."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from jobs.filters import JobFilter, Order
from jobs.marks import Verdict
from jobs.records import Batch, Job
from jobs.specs import EditSpec
from jobs.states import ENDED, LIVE, State
from jobs.store.base import utc_now
from producer.api.seen import Seen
from producer.gallery.words import Word, changed_words
from producer.plain import plain_worker
from producer.schedules.times import in_words
from producer.waiting import why_waiting

PAGE = 60


@dataclass(frozen=True)
class Card:
    """A job as grids show it."""

    job: Job
    title: str
    words: Sequence[Word]
    has_image: bool
    verdict: Verdict | None


@dataclass(frozen=True)
class Row:
    """A batch in a list."""

    batch: Batch
    name: str
    counts: dict[State, int]

    @property
    def total(self) -> int:
        """All its jobs."""
        return sum(self.counts.values())

    @property
    def ended(self) -> int:
        """Those that need no more work."""
        return sum(self.counts[state] for state in ENDED)

    @property
    def is_live(self) -> bool:
        """Whether work is left."""
        return any(self.counts[state] for state in LIVE)


def overview(seen: Seen) -> dict[str, Any]:
    """The first page: workers, queues, schedules; nothing of them for tenants."""
    if seen.tenant is not None:
        return {"workers": [], "depths": [], "schedules": []}
    running = seen.store.find(seen.jobs(states=(State.RUNNING,)))
    now, lease = utc_now(), seen.client.settings.lease_seconds
    workers = [
        plain_worker(
            worker,
            [job for job in running if job.worker == worker.name],
            alive=(now - worker.seen_at).total_seconds() <= lease,
        )
        | {"seen_seconds": max(0.0, (now - worker.seen_at).total_seconds())}
        for worker in seen.store.workers()
    ]
    schedules = [
        {"schedule": each, "words": in_words(each.cron)} for each in seen.store.schedules()
    ]
    return {"workers": workers, "depths": seen.store.depths(), "schedules": schedules}


def batch_rows(seen: Seen, before: UUID | None) -> tuple[list[Row], UUID | None]:
    """A page of batches, newest first, and where the next one starts."""
    found = seen.batches(PAGE + 1, before=before)
    rows = [row_of(seen, each.batch, each.counts) for each in found[:PAGE]]
    return rows, found[PAGE - 1].batch.id if len(found) > PAGE else None


def row_of(seen: Seen, batch: Batch, counts: dict[State, int]) -> Row:
    """A batch as pages name it."""
    return Row(batch, seen.name_of(batch) or str(batch.id), counts)


def cards(
    seen: Seen, which: JobFilter, after: UUID | None, order: Order
) -> tuple[list[Card], UUID | None]:
    """A page of a gallery, and where the next one starts."""
    found = seen.store.list_jobs(which, after, PAGE + 1, order)
    shown = cards_of(seen, found[:PAGE])
    return shown, found[PAGE - 1].id if len(found) > PAGE else None


def cards_of(seen: Seen, jobs: Sequence[Job]) -> list[Card]:
    """Jobs with what people said of them."""
    verdicts = seen.store.marks_of([job.id for job in jobs])
    return [_card(job, verdicts.get(job.id)) for job in jobs]


def _card(job: Job, verdict: Verdict | None) -> Card:
    if job.unreadable is not None:
        return Card(job, job.unreadable, (), has_image=False, verdict=verdict)
    spec, result = job.spec, job.result
    edit = spec.edit_prompt if isinstance(spec, EditSpec) else ""
    has_image = result is not None and "image" in result.outputs and "image" not in result.pruned
    words = changed_words(spec.base_prompt, edit)
    return Card(job, edit or spec.base_prompt, words, has_image, verdict)


def neighbours(seen: Seen, job: Job, batch: Batch | None) -> dict[str, Any]:
    """The jobs that stand before and after one in its batch's gallery."""
    if batch is None:
        return {"newer": None, "older": None}
    newer = seen.store.page_of(batch.id, job.id, 1)
    older = seen.store.list_jobs(seen.jobs(batch=batch.id), job.id, 1)
    return {"newer": next(iter(newer), None), "older": next(iter(older), None)}


def details(seen: Seen, job: Job) -> dict[str, Any]:
    """Everything that is known of a job, for its page."""
    alive = seen.store.live_workers(seen_within=seen.client.settings.lease_seconds)
    [card] = cards_of(seen, [job])
    siblings = [] if job.unreadable is not None else cards_of(seen, seen.store.siblings(job))
    return {
        "card": card,
        "job": job,
        "spec": None if job.unreadable is not None else job.spec,
        "result": None if job.unreadable is not None else job.result,
        "waits_for": why_waiting(job, alive, utc_now()),
        "siblings": siblings,
        "round_trip": next((each for each in siblings if _is_round_trip(each)), None),
        "has_original": job.unreadable is None,
    }


def _is_round_trip(card: Card) -> bool:
    return card.job.kind == "reconstruction" and card.has_image


def batches_of(seen: Seen, job: Job) -> list[Row]:
    """The batches that a job is in, as far as they are seen."""
    found = seen.store.batches_of(job.id)
    return [row_of(seen, batch, {}) for batch in found if seen.tenant in (None, batch.tenant)]
