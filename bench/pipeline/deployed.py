"""The whole pipeline: servers, control process, workers, and what rows say of the time it took."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

from bench.pipeline.work import Work, picture
from jobs.records import Job
from jobs.settings import Settings
from jobs.specs import Source
from jobs.states import ENDED, LIVE, State
from jobs.store.base import utc_now
from producer.client import MAX_PRIORITY, Client
from producer.embedded.stack import EmbeddedStack

START_SECONDS = 300.0
POLL_SECONDS = 0.01
WAIT_SECONDS = 0.5
LIVE_SECONDS = 10.0
SMALL = Work(images=1, edits=1, steps=2)


@dataclass
class Latency:
    """Seconds of each of several jobs, from before its submission."""

    to_claim: list[float]
    to_end: list[float]
    """A job that did not end in time counts with the time that it was given."""
    late: int = 0
    """How many did not end in time."""


class Deployed:
    """A running pipeline and its client. No two of its images are the same."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._numbers = count(1_000_000)

    def images_per_second(self, work: Work) -> float:
        """Submit the work at once, and measure to the end of the last job."""
        sources = self._sources(work.images)
        begun = utc_now()
        specs = list(work.specs(sources, self.client.model()))
        job_ids = [submission.job_id for submission in self.client.submit(specs)]
        self._wait(job_ids)
        ended = [_ended(self.client.store.job(job_id)) for job_id in job_ids]
        return work.jobs / (max(ended) - begun).total_seconds()

    def latencies(self, times: int, work: Work, patience: float, priority: int = 0) -> Latency:
        """Submit one job after the other, each when the one before has ended."""
        found = Latency([], [])
        for source in self._sources(times):
            [spec] = Work(1, 1, work.steps).specs([source], self.client.model())
            begun = utc_now()
            [submission] = self.client.submit([spec], priority=priority)
            job = self._look(submission.job_id, patience)
            if job.state not in ENDED:
                found.late += 1
                found.to_end.append(patience)
                self.client.store.cancel([job.id])
                continue
            found.to_end.append((_ended(job) - begun).total_seconds())
            assert job.started_at is not None
            found.to_claim.append((job.started_at - begun).total_seconds())
        return found

    @contextmanager
    def bulk(self, work: Work) -> Iterator[int]:
        """Keep the queue full of work of low priority; gives how many jobs that is."""
        specs = list(work.specs(self._sources(work.images), self.client.model()))
        submissions = self.client.submit(specs, priority=-MAX_PRIORITY)
        job_ids = [submission.job_id for submission in submissions]
        while not self.client.store.counts()[State.RUNNING]:
            time.sleep(POLL_SECONDS)
        try:
            yield len(job_ids)
        finally:
            self.client.store.cancel(job_ids)

    def _sources(self, images: int) -> list[Source]:
        numbers = [next(self._numbers) for _ in range(images)]
        return [self.client.sources.upload(picture(number), str(number)) for number in numbers]

    def _look(self, job_id: UUID, patience: float) -> Job:
        deadline = time.monotonic() + patience
        while True:
            job = self.client.store.job(job_id)
            if job.state in ENDED or time.monotonic() > deadline:
                return job
            time.sleep(POLL_SECONDS)

    def _wait(self, job_ids: Sequence[UUID]) -> None:
        """Look at the counts only, and seldom: looking is load of its own, and rows tell times."""
        counts = self.client.store.counts
        before = counts()[State.FAILED]
        while any((found := counts())[state] for state in LIVE):
            time.sleep(WAIT_SECONDS)
        failed = found[State.FAILED] - before
        if failed:
            raise RuntimeError(f"{failed} of {len(job_ids)} jobs failed; see the worker's log")


@contextmanager
def deployed(model: str, devices: Sequence[str]) -> Iterator[Deployed]:
    """Start everything in a folder of its own, wait for every device, and warm it up."""
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedStack(Path(folder), devices, (model,)) as stack,
    ):
        stack.start()
        values: dict[str, Any] = {
            name.removeprefix("EDICT_").lower(): value
            for name, value in stack.environment().items()
        }
        with Client(Settings(**values)) as client:
            running = Deployed(client)
            _wait_for_workers(stack, client, len(devices))
            running.images_per_second(Work(4 * len(devices), 1, SMALL.steps))
            yield running


def _wait_for_workers(stack: EmbeddedStack, client: Client, devices: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while len(client.store.live_workers(seen_within=LIVE_SECONDS)) < devices:
        stack.check()
        if time.monotonic() > deadline:
            log = (stack.home / "logs" / "worker.log").read_text()[-2_000:]
            raise RuntimeError(f"no {devices} workers after {START_SECONDS:g} s:\n{log}")
        time.sleep(0.2)


def _ended(job: Job) -> datetime:
    assert job.finished_at is not None
    return job.finished_at
