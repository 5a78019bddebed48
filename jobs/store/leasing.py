"""Doing work: claims, leases, ends. The fencing token decides who may write."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row, case, select, tuple_, update

from jobs.errors import InvalidInput, LeaseLost, NewerInput
from jobs.records import Claim
from jobs.results import Result
from jobs.specs import parse_spec
from jobs.states import State
from jobs.store.base import StorePart, change, change_rows
from jobs.store.gating import judge_end
from jobs.tables import batch_jobs, jobs, workers

WORKER_LOST = "worker_lost"
BAD_SPEC = "bad_spec"
NEWER_SPEC = "newer_spec"
NEWER_SECONDS = 30.0
"""How long a job is left alone that this version cannot read."""

_CODE_CHARACTERS = 50
_MESSAGE_CHARACTERS = 4_000
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

_A_BATCH = (
    select(batch_jobs.c.batch_id)
    .where(batch_jobs.c.job_id == jobs.c.id)
    .limit(1)
    .correlate(jobs)
    .scalar_subquery()
    .label("batch")
)

_log = structlog.get_logger()

Held = tuple[UUID, int]
"""A claim's job and fencing token."""


class Leasing(StorePart):
    """What workers do, and what is done for those that fell silent."""

    def claim(
        self,
        job_ids: Sequence[UUID],
        worker: str,
        *,
        lease: float,
        models: Sequence[str] | None = None,
        most_losses: int | None = None,
    ) -> list[Claim]:
        """Take what is still queued of these jobs, for `lease` seconds, most urgent first.

        Jobs that somebody else took, that ended or that were never asked for are left out: the
        message that named them was only a hint. So are those of other models than `models`, which
        are labels (`ModelRef.label`), and those that were lost with their worker more than
        `most_losses` times (see `jobs.store.losing`), where these are given.
        """
        now = self._clock()
        free = select(jobs.c.id).where(
            jobs.c.id.in_(job_ids), jobs.c.state == State.QUEUED, jobs.c.paused.is_(False)
        )
        if models is not None:
            free = free.where(jobs.c.model.in_(models))
        if most_losses is not None:
            free = free.where(jobs.c.losses <= most_losses)
        statement = change_rows(
            free,
            skip_locked=True,
            state=State.RUNNING,
            worker=worker,
            token=jobs.c.token + 1,
            attempts=jobs.c.attempts + 1,
            started_at=now,
            lease_until=now + timedelta(seconds=lease),
            progress=0.0,
        ).returning(
            jobs.c.id,
            jobs.c.token,
            jobs.c.spec,
            jobs.c.attempts,
            jobs.c.priority,
            jobs.c.losses,
            jobs.c.queued_at,
            jobs.c.traceparent,
            _A_BATCH,
        )
        with self._engine.begin() as connection:
            rows = connection.execute(statement).all()
        return sorted(self._claims(rows, now), key=lambda claim: (-claim.priority, claim.job_id))

    def _claims(self, rows: Sequence[Row[Any]], now: datetime) -> Iterator[Claim]:
        for row in rows:
            try:
                spec = parse_spec(row.spec)
                waited = None if row.queued_at is None else (now - row.queued_at).total_seconds()
                yield Claim(
                    row.id,
                    row.token,
                    spec,
                    row.attempts,
                    row.priority,
                    row.losses,
                    waited,
                    row.batch,
                    row.traceparent,
                )
            except InvalidInput as error:
                # Its neighbours are to run all the same.
                with suppress(LeaseLost):  # cancelled meanwhile
                    self._refuse(row.id, row.token, error)

    def _refuse(self, job_id: UUID, token: int, error: InvalidInput) -> None:
        """Leave a job of a newer version to newer workers, untried; fail one written by hand."""
        if not isinstance(error, NewerInput):
            self._fail(job_id, token, BAD_SPEC, f"this version cannot read it: {error}")
            return
        _log.warning("job.of_newer_version", job=str(job_id), reason=str(error))
        self._end(
            job_id,
            token,
            state=State.PENDING,
            due_at=self._clock() + timedelta(seconds=NEWER_SECONDS),
            progress=None,
            attempts=jobs.c.attempts - 1,
            **storable_error(
                NEWER_SPEC,
                f"a worker cannot read it, as a newer version wrote it: {error}. It waits for "
                "newer workers; upgrade them",
            ),
        )

    def heartbeat(
        self, worker: str, progress: Mapping[Held, float], *, lease: float
    ) -> frozenset[Held]:
        """Renew these leases of `worker`, and note how far each job is.

        Returns those that it still holds. It must drop the others: they were cancelled, or the
        lease expired and somebody else may run the job, this process itself included.
        """
        now = self._clock()
        how_far = {job_id: share for (job_id, _), share in progress.items()}
        renewed = change(
            tuple_(jobs.c.id, jobs.c.token).in_(list(progress)),
            jobs.c.worker == worker,
            jobs.c.state == State.RUNNING,
            lease_until=now + timedelta(seconds=lease),
            progress=case(how_far, value=jobs.c.id) if progress else jobs.c.progress,
        ).returning(jobs.c.id, jobs.c.token)
        with self._engine.begin() as connection:
            rows = connection.execute(renewed).all() if progress else []
            connection.execute(update(workers).where(workers.c.name == worker).values(seen_at=now))
        return frozenset((row.id, row.token) for row in rows)

    def finish(self, claim: Claim, result: Result) -> None:
        """Write a job's success; it is flagged where it falls short of a batch's gate.

        Raises:
            LeaseLost: the claim is not the row's any more; nothing was written.
        """
        self._end(
            claim.job_id,
            claim.token,
            judged=result,
            state=State.SUCCEEDED,
            finished_at=self._clock(),
            progress=1.0,
            error_code=None,
            error_message=None,
            result=result.model_dump(mode="json"),
        )

    def fail(self, claim: Claim, code: str, message: str) -> None:
        """Write a job's failure, for good.

        Raises:
            LeaseLost: the claim is not the row's any more; nothing was written.
        """
        self._fail(claim.job_id, claim.token, code, message)

    def _fail(self, job_id: UUID, token: int, code: str, message: str) -> None:
        self._end(
            job_id,
            token,
            state=State.FAILED,
            finished_at=self._clock(),
            **storable_error(code, message),
        )

    def postpone(
        self,
        claim: Claim,
        code: str,
        message: str,
        *,
        delay: float,
        max_attempts: int | None = None,
    ) -> State:
        """Give a job back after an error that may pass, to be tried again in `delay` seconds.

        After its last attempt, the store's or this error's own `max_attempts`, it has failed
        instead; returns what it came to.

        Raises:
            LeaseLost: the claim is not the row's any more; nothing was written.
        """
        attempts = claim.attempt - claim.losses
        if attempts >= max(self._max_attempts, max_attempts or 0):
            self.fail(claim, code, f"{message} (attempt {claim.attempt}, the last)")
            return State.FAILED
        due = self._clock() + timedelta(seconds=delay)
        self._end(
            claim.job_id,
            claim.token,
            state=State.PENDING,
            due_at=due,
            progress=None,
            **storable_error(code, message),
        )
        return State.PENDING

    def give_back(self, claim: Claim) -> None:
        """Return a job untried: its worker stops. This attempt does not count.

        Raises:
            LeaseLost: the claim is not the row's any more; nothing was written.
        """
        self._end(
            claim.job_id,
            claim.token,
            state=State.PENDING,
            due_at=self._clock(),
            progress=None,
            attempts=jobs.c.attempts - 1,
        )

    def _end(
        self, job_id: UUID, token: int, *, judged: Result | None = None, **values: Any
    ) -> None:
        statement = (
            update(jobs)
            .where(jobs.c.id == job_id, jobs.c.token == token, jobs.c.state == State.RUNNING)
            .values(lease_until=None, **values)
        )
        with self._engine.begin() as connection:
            if len(self._changed(connection, statement)) != 1:
                raise LeaseLost(
                    f"job {job_id}: the claim with token {token} is no longer valid; "
                    "the job was cancelled or taken over"
                )
            if judged is not None:
                judge_end(connection, job_id, judged)

    def check_answers(self) -> None:
        """Ask the database for nothing.

        Raises:
            SQLAlchemyError: it does not answer.
        """
        with self._reader.connect() as connection:
            connection.execute(select(1))

    def expire_leases(self) -> int:
        """Take jobs from workers that fell silent; says how many.

        They become pending again, or failed (`worker_lost`) where they are to blame: a job that
        kills its workers must not go on for ever (see `jobs.store.losing`).
        """
        now = self._clock()
        used_up = jobs.c.losses + 1 >= self._max_losses
        lost = (
            f"{self._max_losses} workers fell silent while they ran this job, all but the first "
            "of them while they ran nothing else. Look at the workers' logs, then retry the job"
        )
        late = select(jobs.c.id).where(jobs.c.state == State.RUNNING, jobs.c.lease_until < now)
        return self._change(
            change_rows(
                late.order_by(jobs.c.id),
                # Somebody is changing those that are locked: the next look sees what came of it.
                skip_locked=True,
                state=case((used_up, State.FAILED), else_=State.PENDING),
                due_at=now,
                losses=jobs.c.losses + 1,
                lease_until=None,
                progress=case((used_up, jobs.c.progress), else_=None),
                finished_at=case((used_up, now), else_=None),
                error_code=case((used_up, WORKER_LOST), else_=jobs.c.error_code),
                error_message=case((used_up, lost), else_=jobs.c.error_message),
            )
        )


def storable_error(code: str, message: str) -> dict[str, Any]:
    """The columns of an error, cut and cleaned to what a database takes."""
    return {
        "error_code": _storable(code, _CODE_CHARACTERS),
        "error_message": _storable(message, _MESSAGE_CHARACTERS),
    }


def _storable(text: str, limit: int) -> str:
    """What a database takes: an error's text may quote any bytes, and its row must be written."""
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)[:limit]
