"""Keeping what is claimed: one heartbeat a process renews all its leases in one statement.

`LeaseKeeper.holds` is what running work asks. It turns false as soon as a heartbeat learns that a
job was cancelled or taken over, or when the process is told to stop.
"""

import threading
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self
from uuid import UUID

import structlog

from jobs.records import Claim
from jobs.store import JobStore

HEARTBEAT_SECONDS = 2.0
"""How soon a cancellation is noticed; a short lease shortens it."""

_log = structlog.get_logger()


class LeaseKeeper:
    """Holds the claims of one worker process, and renews them until they are dropped.

    Only jobs of `models` are claimed, where these are given; a message may name others.
    """

    def __init__(
        self, store: JobStore, worker: str, *, lease: float, models: Sequence[str] | None = None
    ) -> None:
        self._store = store
        self._worker = worker
        self._lease = lease
        self._models = models
        # By job and fencing token: this process may lose a job and claim it again while the
        # work of its first claim still goes on.
        self._progress: dict[tuple[UUID, int], float] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def stopping(self) -> bool:
        """Whether this process was told to stop; what it holds is to be given back."""
        return self._stopping.is_set()

    def stop_work(self) -> None:
        """Make all running work end soon; leases are kept until it has given them back."""
        self._stopping.set()

    def claim(self, job_ids: Iterable[UUID]) -> list[Claim]:
        """Claim what is free of these jobs, and keep it."""
        claims = self._store.claim(
            list(job_ids), self._worker, lease=self._lease, models=self._models
        )
        with self._lock:
            self._progress.update({_key(claim): 0.0 for claim in claims})
        return claims

    def drop(self, claim: Claim) -> None:
        """Stop renewing: the job has ended or was given back."""
        with self._lock:
            self._progress.pop(_key(claim), None)

    def holds(self, claim: Claim) -> bool:
        """Whether work on this job should go on."""
        return _key(claim) in self._progress and not self.stopping

    def report(self, claim: Claim, progress: float) -> None:
        """Note how far a job is, from 0 to 1; the next heartbeat tells."""
        with self._lock:
            if _key(claim) in self._progress:
                self._progress[_key(claim)] = progress

    def beat(self) -> None:
        """Renew all leases once, and forget those that are lost."""
        with self._lock:
            progress = dict(self._progress)
        held = self._store.heartbeat(self._worker, progress, lease=self._lease)
        lost = progress.keys() - held
        with self._lock:
            # Jobs that ended since the copy was made are gone already.
            lost = {key for key in lost if self._progress.pop(key, None) is not None}
        for job_id, _ in lost:
            _log.warning("lease.lost", job=str(job_id), worker=self._worker)

    def _run(self) -> None:
        interval = min(HEARTBEAT_SECONDS, self._lease / 3)
        while not self._stop.wait(interval):
            try:
                self.beat()
            except Exception as error:
                # Leases last for several heartbeats; the database may be back for the next. And
                # whatever it was: without this thread every lease of this process runs out.
                _log.warning("heartbeat.failed", reason=str(error), exc_info=error)


def _key(claim: Claim) -> tuple[UUID, int]:
    return claim.job_id, claim.token
