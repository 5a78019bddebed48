"""The demo's course: servers, jobs, workers, progress, gallery.

It ends whatever happens to the processes that it started: one that ended by itself is reported at
the next look, and where nothing moves for minutes the workers' log is shown.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from rich.console import Console

from jobs.errors import JobsError
from jobs.records import Job
from jobs.settings import Settings
from jobs.states import State
from producer.admission import Admission, admit
from producer.client import Client
from producer.demo.manifest import Item
from producer.demo.report import Outcome
from producer.embedded.stack import EmbeddedStack
from producer.progress import Counts, follow

STALL_SECONDS = 120.0
"""Loading torch takes a while on a slow disk; nothing else is silent for so long."""


class DemoStalled(JobsError):
    """Nothing moved for too long; the message ends with the workers' log."""

    code = "demo_stalled"


@dataclass
class Course:
    """One run of the demo on a stack whose home is taken."""

    stack: EmbeddedStack
    workers: int
    console: Console
    batch: str
    _moved_at: float = field(default_factory=time.monotonic)
    _seen: object = None

    def run(self, items: Sequence[Item]) -> Outcome:
        """Run every item's jobs to their end.

        Raises:
            EmbeddedError: a server or a process did not start, or ended by itself.
            DemoStalled: nothing moved for `STALL_SECONDS`.
            ServiceUnavailable: a server stopped answering.
        """
        with self._saying("starting the servers"):
            self.stack.start_services()
            self.stack.migrate()
        with Client(stack_settings(self.stack)) as client:
            with self._saying("checking and uploading the images"):
                rows = [row for item in items for row in item.rows()]
                admission = admit(rows, client.sources, client.model())
                ids, nothing_to_do = self._submit(client, admission)
            began = time.monotonic()
            if not nothing_to_do:
                self.stack.start_processes()
                self._follow(client, ids)
            jobs = self._jobs(client, ids)
            took = None if nothing_to_do else time.monotonic() - began
            return Outcome(jobs, list(admission.refused), took)

    def _submit(self, client: Client, admission: Admission) -> tuple[list[UUID], bool]:
        """The jobs' ids, and whether all of them were done before."""
        batch = client.store.open_batch(self.batch)
        submissions = client.submit(admission.specs, batch_id=batch.id)
        done = all(made.state == State.SUCCEEDED for made in submissions)
        return [made.job_id for made in submissions], done

    def _follow(self, client: Client, ids: Sequence[UUID]) -> None:
        self._moved_at = time.monotonic()

        def counts() -> Counts:
            self.stack.check()
            jobs = self._jobs(client, ids)
            self._watch(jobs)
            states = Counter(job.state for job in jobs)
            return {state: states[state] for state in State}

        follow(counts, self.console, lambda _: self._workers_text(client))

    def _jobs(self, client: Client, ids: Sequence[UUID]) -> list[Job]:
        # The batch may hold more: what an earlier version of the demo asked for.
        wanted = set(ids)
        found = client.store.jobs_of(client.store.batch(self.batch).id)
        by_id = {job.id: job for job in found if job.id in wanted}
        return [by_id[job_id] for job_id in dict.fromkeys(ids)]

    def _workers_text(self, client: Client) -> str:
        alive = client.store.live_workers(seen_within=client.settings.lease_seconds)
        ready = min(len(alive), self.workers)
        return f"loading workers ({ready} of {self.workers} ready)" if not ready else "editing"

    def _watch(self, jobs: Sequence[Job]) -> None:
        now, seen = time.monotonic(), [(job.state, job.attempts, job.progress) for job in jobs]
        if seen != self._seen:
            self._seen, self._moved_at = seen, now
        elif now - self._moved_at > STALL_SECONDS:
            log = self.stack.home / "logs" / "worker.log"
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            raise DemoStalled(
                f"no job moved for {STALL_SECONDS:g} s; the workers cannot work. "
                f"The end of {log}:\n{tail}"
            )

    def _saying(self, what: str) -> "_Saying":
        return _Saying(self.console, what)


class _Saying:
    """Says what is going on, at once, and how long it took, at its end."""

    def __init__(self, console: Console, what: str) -> None:
        self._console = console
        self._what = what
        self._status = console.status(f"{what} …")
        self._began = 0.0

    def __enter__(self) -> None:
        self._began = time.monotonic()
        self._status.start()

    def __exit__(self, kind: object, *_: object) -> None:
        self._status.stop()
        if kind is None:
            took = time.monotonic() - self._began
            self._console.print(f"{self._what}: {took:.1f} s", highlight=False)


def stack_settings(stack: EmbeddedStack) -> Settings:
    """The settings that reach this stack and no other, whatever the environment names."""
    values: dict[str, Any] = {
        name.removeprefix("EDICT_").lower(): value for name, value in stack.environment().items()
    }
    return Settings(**values)


def gallery_path(folder: Path) -> Path:
    """Where the gallery is written."""
    return folder / "index.html"
