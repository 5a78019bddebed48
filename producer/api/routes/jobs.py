"""Jobs: make them, look at them, steer them, take away what they made."""

from datetime import timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Query, Response

from jobs.filters import Order
from jobs.gates import Condition
from jobs.marks import Verdict
from jobs.records import Job
from jobs.states import State
from jobs.store.base import utc_now
from producer.api.forms import JOB_BODY, asked_job
from producer.api.parts import Limit, problems
from producer.api.problems import Refused
from producer.api.seen import TheView
from producer.api.shapes import JobPage, JobShape, MarkShape, Results, SubmissionShape
from producer.api.submitting import submit_job
from producer.api.wishes import Asked, MarkWish
from producer.plain import moment, plain_job

URL_SECONDS = 3_600

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
_log = structlog.get_logger()


@router.post(
    "",
    status_code=201,
    response_model=SubmissionShape,
    responses={200: {"model": SubmissionShape}, **problems(400, 409, 413, 415)},
    openapi_extra=JOB_BODY,
)
def submit(
    asked: Annotated[Asked, Depends(asked_job)],
    seen: TheView,
    response: Response,
) -> Any:
    """Submit one job: as JSON, its image in a bucket, or as a form with the image.

    Answers 200 where the same was asked before: it is one job.
    """
    made = submit_job(seen, asked)
    _log.info("api.submitted", key=seen.caller.name, job=str(made.job_id))
    response.status_code = 201 if made.created else 200
    response.headers["Location"] = f"/v1/jobs/{made.job_id}"
    return {"id": made.job_id, "state": made.state, "created": made.created}


@router.get("", response_model=JobPage, responses=problems(404))
def list_(
    seen: TheView,
    batch: Annotated[str | None, Query(description="A batch's name or id.")] = None,
    state: Annotated[list[State], Query(description="Any of these.")] = [],  # noqa: B006
    kind: Literal["edit", "inversion", "reconstruction"] | None = None,
    code: Annotated[str | None, Query(description="Of the error.")] = None,
    model: str | None = None,
    prompt: Annotated[str | None, Query(description="Found in a prompt.")] = None,
    mark: Annotated[Verdict | None, Query(description="What people said of it.")] = None,
    flagged: Annotated[
        bool | None, Query(description="Whether it fell short of the batch's gate.")
    ] = None,
    where: Annotated[
        list[Annotated[str, Query(max_length=100)]],
        Query(description="Conditions on figures.", examples=[["psnr>=25"]], max_length=10),
    ] = [],  # noqa: B006
    order: Annotated[Order, Query(description="What comes first.")] = Order.NEWEST,
    cursor: Annotated[UUID | None, Query(description="`next` of the page before.")] = None,
    limit: Limit = 50,
) -> Any:
    """List jobs."""
    which = seen.jobs(
        batch=None if batch is None else seen.batch(batch).id,
        states=tuple(state),
        kind=kind,
        code=code,
        model=model,
        prompt=prompt,
        mark=mark,
        flagged=flagged,
        figures=tuple(map(Condition.parse, where)),
    )
    # One more than asked for tells whether there is a next page.
    found = seen.store.list_jobs(which, cursor, limit + 1, order)
    more = found[limit - 1].id if len(found) > limit else None
    return {"items": [plain_job(job) for job in found[:limit]], "next": more}


@router.get("/{job_id}", response_model=JobShape, responses=problems(404))
def show(job_id: UUID, seen: TheView) -> Any:
    """Show a job."""
    return plain_job(seen.job(job_id))


@router.delete("/{job_id}", response_model=JobShape, responses=problems(404))
def cancel(job_id: UUID, seen: TheView) -> Any:
    """Cancel a job, unless it has ended; a running one stops soon."""
    seen.job(job_id)
    seen.client.cancel([job_id])
    return plain_job(seen.job(job_id))


@router.post("/{job_id}/retry", response_model=JobShape, responses=problems(404, 409))
def retry(job_id: UUID, seen: TheView) -> Any:
    """Give a job that failed or was cancelled a new life."""
    job = seen.job(job_id)
    if not seen.client.retry([job_id]):
        raise Refused(409, "not_ended_badly", f"the job is {job.state}; nothing is to be retried")
    return plain_job(seen.job(job_id))


@router.post("/{job_id}/mark", response_model=MarkShape, responses=problems(404))
def mark(job_id: UUID, wish: MarkWish, seen: TheView) -> Any:
    """Approve or reject a job's result, or take that back; `edict export --approved` honours it."""
    seen.store.mark(seen.job(job_id).id, wish.verdict, seen.caller.name)
    return {"id": job_id, "verdict": wish.verdict}


@router.get("/{job_id}/results", response_model=Results, responses=problems(404, 409))
def results(job_id: UUID, seen: TheView) -> Any:
    """The files that a job made, with addresses that work for an hour."""
    job = seen.job(job_id)
    expires = utc_now() + timedelta(seconds=URL_SECONDS)
    return {
        "items": [
            {
                "role": role,
                **output.model_dump(),
                "url": seen.client.objects.presigned_url(output.key, seconds=URL_SECONDS),
                "expires": moment(expires),
            }
            for role, output in _outputs(job).items()
        ]
    }


def _outputs(job: Job) -> dict[str, Any]:
    if job.unreadable is not None:
        raise Refused(409, "unreadable", job.unreadable)
    if job.result is None:
        detail = f"the job is {job.state}; there are results once it has succeeded"
        raise Refused(409, "not_succeeded", detail)
    kept = job.result.outputs.items()
    return {role: output for role, output in kept if role not in job.result.pruned}
