"""What a manifest would cost: counted on disk, so that memory stays flat, and priced by what the
workers were seen to do.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from jobs.records import Job
from jobs.specs import EditSpec, InversionSpec, ReconstructionSpec, Spec
from jobs.states import State
from jobs.store import JobStore
from jobs.writing import SpecWriter

MEASURED_JOBS = 500
"""The latest finished jobs of a model, by which the next are estimated."""


@dataclass(frozen=True)
class Pace:
    """What a model's latest jobs took."""

    seconds_per_step: float
    """Of one device, for one sampler step of one image."""
    bytes_per_inversion: float
    bytes_per_result: float


@dataclass(frozen=True)
class Estimate:
    """What submitting would mean."""

    jobs: int
    """All that the rows ask for."""
    duplicates: int
    """Asked for twice in the manifest."""
    known: int
    """Submitted before and not ended well, or not yet ended."""
    done: int
    """Submitted before, and succeeded."""
    new: int
    inversions: int
    """That the new jobs need; edits of one image share one."""
    shared: int
    """New jobs that need no inversion of their own."""
    device_hours: float | None
    """None: no job of one of the models has finished yet."""
    storage_bytes: int | None


class Census:
    """Counts specs in a temporary database on disk, which is gone at its end."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._writer = SpecWriter()
        self._asked = 0

    def __enter__(self) -> Self:
        # "" is a private database in a temporary file.
        self._counted = sqlite3.connect("", isolation_level=None)
        self._counted.execute(
            "CREATE TABLE specs (digest TEXT PRIMARY KEY, inversion TEXT, model TEXT, steps REAL, "
            "extra REAL, image INTEGER, state TEXT) WITHOUT ROWID"
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._counted.close()

    def add(self, specs: Iterable[Spec]) -> None:
        """Count the specs of a chunk."""
        rows = []
        for spec in specs:
            written = self._writer.write(spec)
            steps = spec.sampler.steps * spec.sampler.strength
            extra = 0.0 if isinstance(spec, InversionSpec) else steps
            image = not isinstance(spec, InversionSpec)
            rows.append(
                (written.digest, written.inversion_digest, spec.model.name, steps, extra, image)
            )
        self._asked += len(rows)
        states = self._store.states_of([row[0] for row in rows]) if rows else {}
        self._counted.execute("BEGIN")
        self._counted.executemany(
            "INSERT OR IGNORE INTO specs VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(*row, states.get(row[0])) for row in rows],
        )
        self._counted.execute("COMMIT")

    @property
    def models(self) -> list[str]:
        """The models that were asked for."""
        return [name for (name,) in self._counted.execute("SELECT DISTINCT model FROM specs")]

    def estimate(self, paces: Mapping[str, Pace | None]) -> Estimate:
        """Sum up, with what each model's jobs were seen to take."""
        [(distinct, done, known)] = self._counted.execute(
            "SELECT count(*), coalesce(sum(state = 'succeeded'), 0), "
            "coalesce(sum(state <> 'succeeded'), 0) FROM specs"
        )
        new = distinct - done - known
        work = self._counted.execute(
            "SELECT model, sum(extra), sum(image) FROM specs WHERE state IS NULL GROUP BY model"
        ).fetchall()
        inversions = self._counted.execute(
            "SELECT model, count(*), sum(steps) FROM (SELECT model, inversion, max(steps) AS steps "
            "FROM specs WHERE state IS NULL GROUP BY model, inversion) GROUP BY model"
        ).fetchall()
        needed = sum(count for _, count, _ in inversions)
        hours, size = _cost(work, inversions, paces)
        return Estimate(
            self._asked, self._asked - distinct, known, done, new, needed, new - needed, hours, size
        )


def _cost(
    work: list[tuple[str, float, int]],
    inversions: list[tuple[str, int, float]],
    paces: Mapping[str, Pace | None],
) -> tuple[float | None, int | None]:
    seconds = size = 0.0
    for model, steps, images in work:
        if (pace := paces.get(model)) is None:
            return None, None
        seconds += steps * pace.seconds_per_step
        size += images * pace.bytes_per_result
    for model, count, steps in inversions:
        if (pace := paces.get(model)) is not None:
            seconds += steps * pace.seconds_per_step
            size += count * pace.bytes_per_inversion
    return seconds / 3_600, round(size)


def measured_pace(store: JobStore, model: str) -> Pace | None:
    """What the model's latest finished jobs took; None where there are none."""
    jobs = store.latest(model, State.SUCCEEDED, MEASURED_JOBS)
    steps = sum(_steps(job) for job in jobs)
    busy = sum((_busy(jobs, worker) for worker in {job.worker for job in jobs}), timedelta())
    if not steps or not busy:
        return None
    return Pace(busy.total_seconds() / steps, _mean(jobs, "latents"), _mean(jobs, "image"))


def _busy(jobs: list[Job], worker: str | None) -> timedelta:
    """How long a worker had any of these jobs in hand: they run side by side."""
    spans = sorted(
        (job.started_at, job.finished_at)
        for job in jobs
        if job.worker == worker and job.started_at and job.finished_at
    )
    total, until = timedelta(), datetime.min.replace(tzinfo=spans[0][0].tzinfo) if spans else None
    for start, end in spans:
        if until is not None and end > until:
            total += end - max(start, until)
            until = end
    return total


def _steps(job: Job) -> float:
    """Sampler steps that the job itself ran."""
    steps = job.spec.sampler.steps * job.spec.sampler.strength
    inverted = job.result is not None and not job.result.inversion_reused
    generated = isinstance(job.spec, EditSpec | ReconstructionSpec)
    return steps * (inverted + generated)


def _mean(jobs: list[Job], role: str) -> float:
    sizes: dict[str, int] = {}
    for job in jobs:
        if job.result is not None and (output := job.result.outputs.get(role)) is not None:
            sizes[output.key] = output.size
    return sum(sizes.values()) / len(sizes) if sizes else 0.0
