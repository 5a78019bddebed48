"""What the tests of the contract make again and again."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from jobs.records import Claim
from jobs.results import Output, Result
from jobs.specs import EditSpec, InversionSpec, ModelRef, ReconstructionSpec, Source
from jobs.store import JobStore

LEASE = 30.0
RESULT = Result(
    outputs={"image": Output(key="results/a.png", sha256="ab" * 32, size=7)},
    model_revision="r1",
    fingerprint="cpu",
    exact=True,
    max_error=0.0,
    seconds={"invert": 1.5},
)


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def tick(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def source(image: int = 0, uri: str | None = None) -> Source:
    return Source(uri=uri or f"s3://photos/{image}.png", sha256=f"{image:064x}")


def inversion(image: int = 0, **fields: Any) -> InversionSpec:
    return InversionSpec(**{"source": source(image), "model": ModelRef(name="demo"), **fields})


def edit(image: int = 0, prompt: str = "a dog", **fields: Any) -> EditSpec:
    shared = {"source": source(image), "model": ModelRef(name="demo")}
    return EditSpec(**{**shared, "edit_prompt": prompt, **fields})


def reconstruction(image: int = 0) -> ReconstructionSpec:
    return ReconstructionSpec(source=source(image), model=ModelRef(name="demo"))


def submit(store: JobStore, count: int, **options: Any) -> list[UUID]:
    """New jobs, pending."""
    return [each.job_id for each in store.submit(map(inversion, range(count)), **options)]


def queue(store: JobStore, count: int = 1, **options: Any) -> list[UUID]:
    """New jobs, queued."""
    job_ids = submit(store, count, **options)
    store.take_due(count)
    return job_ids


def claim(store: JobStore, job_id: UUID | None = None, worker: str = "w1") -> Claim:
    """One running job."""
    wanted = [job_id] if job_id else queue(store)
    [claimed] = store.claim(wanted, worker, lease=LEASE)
    return claimed


def states(store: JobStore, job_ids: Iterable[UUID]) -> list[str]:
    return [store.job(job_id).state.value for job_id in job_ids]
