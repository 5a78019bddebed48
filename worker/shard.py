"""Running a shard: claim, fetch, invert once, then every job of the image side by side.

The jobs of a shard succeed and fail one by one. What fails before they part (the source, the
inversion) fails all of them, each on its own row.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, wait
from contextlib import AbstractContextManager
from contextvars import copy_context
from itertools import groupby
from uuid import UUID

import structlog

from edict_engine.errors import Cancelled, EngineClosed
from jobs.errors import LeaseLost
from jobs.records import Claim
from jobs.specs import EditSpec, InversionSpec
from jobs.states import State
from jobs.store import JobStore
from jobs.tracing import Attribute, fail, span, traceparent
from worker import metrics
from worker.failures import classify
from worker.health import DeviceHealth
from worker.isolation import Isolation
from worker.leases import LeaseKeeper
from worker.noise import InvertedElsewhere, Noise, NoiseFinder, NoiseReplaced, Watcher
from worker.outages import outlast
from worker.perform import Performer

_DOING = {"inversion": "inverting", "edit": "editing", "reconstruction": "reconstructing"}
_log = structlog.get_logger()


class ShardRunner:
    """Runs the jobs that a message names, as far as SQL says that they are due."""

    def __init__(
        self,
        store: JobStore,
        keeper: LeaseKeeper,
        finder: NoiseFinder,
        performer: Performer,
        pool: Executor,
        health: DeviceHealth,
        isolation: Isolation,
        *,
        urgent: bool = False,
    ) -> None:
        self._store = store
        self._keeper = keeper
        self._finder = finder
        self._performer = performer
        self._pool = pool
        self._health = health
        self._isolation = isolation
        self._urgent = urgent

    def run(self, job_ids: Sequence[UUID]) -> None:
        """Claim and run jobs; every claimed job's end is on its row when this returns."""
        with self._isolation.together(urgent=self._urgent):
            claims = self._keeper.claim(job_ids)
            _say_claimed(claims)
            claims.sort(key=_image)
            images = [list(together) for _, together in groupby(claims, key=_image)]
            for together in sorted(images, key=_urgency, reverse=True):
                self._run_image(together)
        if len(claims) < len(job_ids):
            self._run_suspects(job_ids)

    def _run_suspects(self, job_ids: Sequence[UUID]) -> None:
        """Run those that were lost with a worker before, one by one and alone.

        Each is claimed when all else has ended: what waits its turn cannot be lost.
        """
        for job_id in self._store.suspects(job_ids):
            with self._isolation.alone():
                claims = self._keeper.claim_suspect(job_id)
                _say_claimed(claims)
                for claim in claims:
                    self._run_image([claim])

    def _run_image(self, claims: list[Claim]) -> None:
        try:
            noise = self._find_noise(claims)
        except InvertedElsewhere as busy:
            self._wait_for_another(claims, busy)
        except Exception as error:
            for claim in claims:
                self._give_up(claim, error)
        else:
            # A context for each: two threads cannot be in one.
            wait(
                [
                    self._pool.submit(copy_context().run, self._run_job, claim, noise)
                    for claim in claims
                ]
            )

    def _wait_for_another(self, claims: list[Claim], busy: InvertedElsewhere) -> None:
        """Do other work while the image is inverted; its jobs come due when that is done."""
        try:
            parked = self._keeper.park(claims, busy.key)
        except Exception as error:
            for claim in claims:
                self._give_up(claim, error)
            return
        if parked:
            metrics.ENDS.labels("parked").inc(len(claims))
            _log.info("jobs.parked", jobs=[str(each.job_id) for each in claims], key=busy.key)
        else:
            # It was done, or given up, in between.
            self._run_image(claims)

    def _find_noise(self, claims: Sequence[Claim]) -> Noise:
        watcher = self._watch(claims, "inverting", *self._inverting(claims))
        if watcher.should_stop():
            raise Cancelled("nobody waits for this image any more")
        with _traced("noise", claims):
            return self._finder.find(claims[0], watcher, for_masks=any(map(_is_masked, claims)))

    def _run_job(self, claim: Claim, noise: Noise) -> None:
        with (
            _traced("job", [claim], **_ids(claim), attempt=claim.attempt),
            structlog.contextvars.bound_contextvars(**_ids(claim)),
        ):
            self._perform(claim, noise)

    def _perform(self, claim: Claim, noise: Noise) -> None:
        try:
            start = 0.0 if noise.reused else 0.5
            watcher = self._watch([claim], _DOING[claim.spec.kind], start, 1.0)
            result = self._performer.perform(claim, noise, watcher)
            self._outlast(claim, lambda: self._store.finish(claim, result))
            self._health.succeeded()
            metrics.job_succeeded(result)
            _log.info("job.succeeded", **_ids(claim), seconds=result.seconds)
        except Exception as error:
            self._give_up(claim, error)
        finally:
            self._keeper.drop(claim)

    def _watch(self, claims: Sequence[Claim], doing: str, start: float, end: float) -> Watcher:
        """Report progress between `start` and `end`, and stop when nobody waits any more."""
        tell = self._performer.telling(claims, doing)

        def progress(done: int, total: int) -> None:
            tell(done, total)
            for claim in claims:
                self._keeper.report(claim, start + (end - start) * done / max(total, 1))

        def should_stop() -> bool:
            return not any(self._keeper.holds(claim) for claim in claims)

        return Watcher(progress, should_stop, _urgency(claims))

    @staticmethod
    def _inverting(claims: Sequence[Claim]) -> tuple[float, float]:
        """The part of the jobs' progress that their inversion stands for."""
        only_that = all(isinstance(claim.spec, InversionSpec) for claim in claims)
        return (0.0, 1.0) if only_that else (0.0, 0.5)

    def _give_up(self, claim: Claim, error: Exception) -> None:
        """Write on the job's row what the error means for it; a lost claim writes nothing."""
        try:
            self._outlast(claim, lambda: self._record(claim, error))
        except LeaseLost as lost:
            _log.warning("job.lost", **_ids(claim), reason=str(lost))
        except Exception:
            # The lease runs out unless it is renewed, and the job is given to somebody else.
            _log.exception("job.unrecorded", **_ids(claim))
        finally:
            self._keeper.drop(claim)

    def _outlast(self, claim: Claim, write: Callable[[], None]) -> None:
        outlast(write, wanted=lambda: self._keeper.holds(claim))

    def _record(self, claim: Claim, error: Exception) -> None:
        if isinstance(error, LeaseLost):
            raise error
        if isinstance(error, Cancelled | EngineClosed | NoiseReplaced):
            # This process stops, or the claim is gone already and the row knows better, or the
            # bucket holds another inversion by now.
            self._store.give_back(claim)
            metrics.ENDS.labels("given_back").inc()
            _log.info("job.given_back", **_ids(claim))
            return
        failure = classify(error)
        fail(failure.code)
        fields = {**_ids(claim), "code": failure.code, "reason": failure.message}
        self._health.failed(failure)
        if failure.device:
            state = self._store.lose(claim, failure.code, failure.message)
            metrics.ENDS.labels("device_lost").inc()
            _log.warning("job.lost_device", **fields, state=state)
            return
        if failure.permanent:
            self._store.fail(claim, failure.code, failure.message)
            metrics.ENDS.labels("failed").inc()
            _log.warning("job.failed", **fields)
            return
        delay = failure.policy.delay(claim.attempt)
        state = self._store.postpone(
            claim,
            failure.code,
            failure.message,
            delay=delay,
            max_attempts=failure.policy.attempts,
        )
        metrics.ENDS.labels("postponed" if state == State.PENDING else "failed").inc()
        _log.warning(f"job.{state}", **fields, retry_in=round(delay, 1), exc_info=error)


def _ids(claim: Claim) -> dict[str, str]:
    """What names a job in the log."""
    batch = {} if claim.batch is None else {"batch": str(claim.batch)}
    return {"job": str(claim.job_id), **batch}


def _traced(name: str, claims: Sequence[Claim], **what: Attribute) -> AbstractContextManager[None]:
    """A span in the trace that the first job was submitted in, of what is done for all of them."""
    others = [traceparent(), *(claim.traceparent for claim in claims[1:])]
    return span(name, kind="internal", parent=claims[0].traceparent, links=others, **what)


def _say_claimed(claims: Sequence[Claim]) -> None:
    for claim in claims:
        _log.info("job.claimed", **_ids(claim), attempt=claim.attempt)


def _image(claim: Claim) -> str:
    return claim.spec.inversion_digest()


def _is_masked(claim: Claim) -> bool:
    return isinstance(claim.spec, EditSpec) and claim.spec.mask is not None


def _urgency(claims: Sequence[Claim]) -> int:
    return max(claim.priority for claim in claims)
