"""Keeping what is claimed: one heartbeat a process renews all its leases in one statement.

`LeaseKeeper.holds` is what running work asks. It turns false as soon as a look or a heartbeat
learns that a job was cancelled or taken over, or when the process is told to stop and the job
cannot end in the time that is left. Looks are cheap and frequent (they write nothing), so that a
cancelled job frees its lane soon; heartbeats write, and need to come a few times a lease only.
"""

import math
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from uuid import UUID

import structlog

from jobs.records import Claim
from jobs.store import JobStore
from worker import metrics
from worker.turns import InversionTurns

HEARTBEAT_SECONDS = 2.0
"""How often progress is told; a short lease shortens it."""
LOOK_SECONDS = 0.5
"""How soon a cancellation is noticed."""

_log = structlog.get_logger()

_Key = tuple[UUID, int]


@dataclass
class _Held:
    """How far a claimed job is, from 0 to 1, and since when it runs."""

    progress: float = 0.0
    since: float = field(default_factory=time.monotonic)

    def ends_by(self, moment: float) -> bool:
        """Whether it will be done by then, going on as it did. Not yet begun: no."""
        now = time.monotonic()
        if self.progress <= 0 or now >= moment:
            return False
        return now + (now - self.since) * (1 - self.progress) / self.progress <= moment


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
        self.turns = InversionTurns(store, worker, lease=lease)
        # By job and fencing token: this process may lose a job and claim it again while the
        # work of its first claim still goes on.
        self._held: dict[_Key, _Held] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._stopping = threading.Event()
        self._deadline = math.inf
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
        """Whether this process was told to stop; what cannot end in time is to be given back."""
        return self._stopping.is_set()

    def stop_work(self, grace: float = 0.0) -> None:
        """Let what can end in `grace` seconds end, and all other running work stop soon.

        Leases are kept until it has given them back. Again with a shorter grace: sooner.
        """
        self._deadline = min(self._deadline, time.monotonic() + grace)
        self._stopping.set()

    def claim(self, job_ids: Iterable[UUID]) -> list[Claim]:
        """Claim what is free of these jobs, and keep it; those that must run alone stay."""
        return self._keep(self._claim(list(job_ids), most_losses=0))

    def claim_suspect(self, job_id: UUID) -> list[Claim]:
        """Claim a job that runs alone, if it is free; the caller sees to it that it does."""
        return self._keep(self._claim([job_id]))

    def _claim(self, job_ids: Sequence[UUID], most_losses: int | None = None) -> list[Claim]:
        return self._store.claim(
            job_ids, self._worker, lease=self._lease, models=self._models, most_losses=most_losses
        )

    def _keep(self, claims: list[Claim]) -> list[Claim]:
        for claim in claims:
            if claim.waited is not None:
                metrics.CLAIMS.observe(claim.waited)
        with self._lock:
            self._held.update({_key(claim): _Held() for claim in claims})
        return claims

    def drop(self, claim: Claim) -> None:
        """Stop renewing: the job has ended or was given back."""
        with self._lock:
            self._held.pop(_key(claim), None)

    def park(self, claims: Sequence[Claim], key: str) -> bool:
        """Give jobs back until another worker's inversion is there; see `JobStore.park`."""
        parked = self._store.park(claims, key)
        if parked:
            for claim in claims:
                self.drop(claim)
        return parked

    def holds(self, claim: Claim) -> bool:
        """Whether work on this job should go on."""
        held = self._held.get(_key(claim))
        if held is None:
            return False
        return not self.stopping or held.ends_by(self._deadline)

    def report(self, claim: Claim, progress: float) -> None:
        """Note how far a job is, from 0 to 1; the next heartbeat tells."""
        with self._lock:
            if held := self._held.get(_key(claim)):
                held.progress = progress

    def beat(self) -> None:
        """Renew all leases once, and forget those that are lost."""
        with self._lock:
            progress = {key: held.progress for key, held in self._held.items()}
        self._forget(progress, self._store.heartbeat(self._worker, progress, lease=self._lease))
        self.turns.renew()

    def look(self) -> None:
        """Forget the leases that are lost, without renewing any."""
        with self._lock:
            believed = list(self._held)
        if believed:
            self._forget(believed, self._store.held(believed))

    def _forget(self, believed: Iterable[_Key], held: frozenset[_Key]) -> None:
        with self._lock:
            # Jobs that ended since the copy was made are gone already.
            lost = [
                key for key in believed if key not in held and self._held.pop(key, None) is not None
            ]
        metrics.LOST.inc(len(lost))
        for job_id, _ in lost:
            _log.warning("lease.lost", job=str(job_id), worker=self._worker)

    def _run(self) -> None:
        interval = min(HEARTBEAT_SECONDS, self._lease / 3)
        due = time.monotonic() + interval
        while not self._stop.wait(max(0.0, min(LOOK_SECONDS, due - time.monotonic()))):
            try:
                if time.monotonic() < due:
                    self.look()
                    continue
                due = time.monotonic() + interval
                self.beat()
            except Exception as error:
                # Leases last for several heartbeats; the database may be back for the next. And
                # whatever it was: without this thread every lease of this process runs out.
                _log.warning("heartbeat.failed", reason=str(error), exc_info=error)


def _key(claim: Claim) -> _Key:
    return claim.job_id, claim.token
