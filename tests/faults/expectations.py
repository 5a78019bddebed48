"""What must be true once the dust has settled, whatever was broken before.

Each expectation raises AssertionError with the first offenders. `check_jobs` wants the servers and
may be asked while the processes run; `check_stopped` is for after they were stopped.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from uuid import UUID

from sqlalchemy import Engine, bindparam, select, text

from jobs.objects import ObjectStore
from jobs.results import Output, Result
from jobs.states import ENDED, LIVE, TRANSITIONS, State
from jobs.tables import jobs
from tests.faults.audit import Change, histories
from tests.faults.deployment import Deployment
from tests.faults.workload import Answer, Workload

Pixels = Callable[[int, Answer], str]
"""The digest of the pixels of a job with so many steps and this answer."""

_SHOWN = 3


@dataclass(frozen=True)
class Findings:
    """What was counted on the way."""

    succeeded: int
    refused: int
    """Jobs with rubbish for an image: failed, with that reason."""
    attempts: Counter[int]
    """Of the jobs that succeeded: how often each had been claimed, those given back left out."""
    taken_back: int
    """How often a running job went back to pending: its worker died, or met an error."""
    losses: int
    """How often a job was lost with its worker."""
    images: int
    latents: int
    workers: Collection[str] = field(default_factory=set)
    """Those that brought a job to its end."""


def unfinished(engine: Engine, job_ids: Collection[UUID]) -> int:
    """How many of these jobs have not ended."""
    statement = text("SELECT count(*) FROM jobs WHERE id IN :ids AND state IN :live").bindparams(
        bindparam("ids", list(job_ids), expanding=True),
        bindparam("live", [str(state) for state in LIVE], expanding=True),
    )
    with engine.connect() as connection:
        return int(connection.execute(statement).scalar_one())


def check_jobs(
    engine: Engine,
    objects: ObjectStore,
    workload: Workload,
    pixels: Pixels,
) -> Findings:
    """Check that every job came to its one right end, with its one right result."""
    rows = {row.id: row for row in _rows(engine, workload.job_ids)}
    _none(workload.job_ids - rows.keys(), "jobs are lost")
    _none((f"{job}: {rows[job].state}" for job in rows if rows[job].state in LIVE), "jobs go on")
    _none(
        (_described(rows[job]) for job in workload.good if rows[job].state != State.SUCCEEDED),
        "good jobs did not succeed",
    )
    _none(
        (
            _described(rows[job])
            for job in workload.bad
            if (rows[job].state, rows[job].error_code) != (State.FAILED, "unreadable_image")
        ),
        "jobs with a bad image did not fail with that reason",
    )
    _none((job for job, row in rows.items() if row.lease_until), "jobs that ended hold a lease")
    past = histories(engine, workload.job_ids)
    check_histories(past, workload.good)
    results = {job: Result.model_validate(rows[job].result) for job in workload.good}
    _check_outputs(objects, workload, results, pixels)
    return Findings(
        succeeded=len(workload.good),
        refused=len(workload.bad),
        attempts=Counter(rows[job].attempts for job in workload.good),
        taken_back=sum(
            (change.before, change.after) == (State.RUNNING, State.PENDING)
            for changes in past.values()
            for change in changes
        ),
        losses=sum(row.losses for row in rows.values()),
        images=len(results),
        latents=len({result.outputs["latents"].key for result in results.values()}),
        workers={changes[-1].worker or "" for changes in past.values()},
    )


def check_histories(past: Mapping[UUID, list[Change]], good: Collection[UUID]) -> None:
    """Check that every row took allowed ways only, and that each good job succeeded once."""
    for job, changes in past.items():
        story = " → ".join(f"{change.after}({change.token})" for change in changes)
        assert changes, f"{job} was never seen by the audit"
        assert changes[0].before is None, f"{job} was there before it was made: {story}"
        tokens = [change.token for change in changes]
        assert tokens == sorted(tokens), f"{job}: its fencing token went back: {story}"
        for one, next_one in pairwise(changes):
            assert next_one.before == one.after, f"{job}: the audit missed a change: {story}"
            assert next_one.after is not None, f"{job} was deleted: {story}"
            allowed = TRANSITIONS[State(str(next_one.before))]
            assert State(next_one.after) in allowed, f"{job} took a forbidden way: {story}"
            claimed = next_one.after == State.RUNNING
            assert (next_one.token > one.token) == claimed, f"{job}: a claim without token: {story}"
        ends = [change.after for change in changes if change.after in ENDED]
        assert len(ends) == 1, f"{job} ended {len(ends)} times: {story}"
        assert job not in good or ends == [State.SUCCEEDED], f"{job}: {story}"


def _check_outputs(
    objects: ObjectStore, workload: Workload, results: Mapping[UUID, Result], pixels: Pixels
) -> None:
    from tests.faults.reference import digest_of_pixels

    latents = {result.outputs["latents"] for result in results.values()}
    for output in latents:
        _check_object(objects, output)
    for job, result in results.items():
        data = _check_object(objects, result.outputs["image"])
        wanted = pixels(workload.steps, workload.good[job])
        assert digest_of_pixels(data) == wanted, f"{job} {workload.good[job]}: other pixels"
        assert result.exact in (True, None), f"{job}: the round trip was not exact"


def _check_object(objects: ObjectStore, output: Output) -> bytes:
    from jobs.keys import sha256

    data = objects.get(output.key)
    named = (output.sha256, output.size)
    assert (sha256(data), len(data)) == named, f"{output.key} is not what its row says"
    return data


def check_no_strays(engine: Engine, objects: ObjectStore) -> None:
    """Check that the bucket's results are those that rows speak of, and no row stands alone."""
    with engine.connect() as connection:
        lonely = connection.execute(text(_LONELY)).scalar_one()
        rows = connection.execute(select(jobs.c.result).where(jobs.c.state == State.SUCCEEDED))
        named = {
            output["key"]
            for (result,) in rows
            for role, output in result["outputs"].items()
            if role != "latents"
        }
    assert lonely == 0, f"{lonely} rows of batch_jobs name no job or no batch"
    there = set(_keys(objects, "results/"))
    _none(named - there, "results are named by rows and not in the bucket")
    _none(there - named, "results are in the bucket and named by no row")


_LONELY = """
SELECT count(*) FROM batch_jobs
LEFT JOIN jobs ON jobs.id = batch_jobs.job_id
LEFT JOIN batches ON batches.id = batch_jobs.batch_id
WHERE jobs.id IS NULL OR batches.id IS NULL
"""


def check_stopped(deployment: Deployment, engine: Engine, since_seconds: float) -> None:
    """Check that nothing runs any more, and that nobody is in the list of live workers.

    Workers that were killed cannot strike themselves: their last sign of life must be older than
    `since_seconds`.
    """
    from jobs.store import JobStore
    from tests.pipeline import is_alive

    _none(deployment.leaked(), "processes are left")
    _none((pid for pid in deployment.seen if is_alive(pid)), "processes are left")
    alive = JobStore(engine).live_workers(seen_within=since_seconds)
    _none((worker.name for worker in alive), "workers that stopped are listed as alive")
    with engine.connect() as connection:
        running = connection.execute(
            select(jobs.c.id).where(jobs.c.state == State.RUNNING)
        ).scalars()
        _none(running, "jobs are running in nobody's hands")


def _rows(engine: Engine, job_ids: Collection[UUID]):  # type: ignore[no-untyped-def]
    counts = (jobs.c.attempts, jobs.c.losses)
    errors = (jobs.c.error_code, jobs.c.error_message)
    statement = select(
        jobs.c.id, jobs.c.state, *counts, *errors, jobs.c.lease_until, jobs.c.result
    ).where(jobs.c.id.in_(list(job_ids)))
    with engine.connect() as connection:
        return connection.execute(statement).all()


def _keys(objects: ObjectStore, prefix: str) -> Iterable[str]:
    client = objects._client
    for page in client.get_paginator("list_objects_v2").paginate(
        Bucket=objects.bucket, Prefix=prefix
    ):
        yield from (each["Key"] for each in page.get("Contents", []))


def _described(row) -> str:  # type: ignore[no-untyped-def]
    return f"{row.id}: {row.state} {row.error_code} {row.error_message}"


def _none(offenders: Iterable[object], complaint: str) -> None:
    found = list(offenders)
    shown = "; ".join(map(str, found[:_SHOWN]))
    assert not found, f"{len(found)} {complaint}: {shown}"
