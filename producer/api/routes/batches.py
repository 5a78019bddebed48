"""Batches: make them from rows, look at them, steer them."""

from typing import Annotated, Any
from uuid import UUID

import structlog
from fastapi import APIRouter, Query, Response

from jobs.records import Batch
from jobs.states import State
from producer.api.parts import Limit, problems
from producer.api.seen import Seen, TheView
from producer.api.shapes import BatchPage, BatchShape, Count, Loaded, MadeBatch
from producer.api.submitting import submit_batch, submit_manifest
from producer.api.wishes import BatchWish

router = APIRouter(prefix="/v1/batches", tags=["batches"])
_log = structlog.get_logger()


@router.post("", status_code=201, response_model=MadeBatch, responses=problems(400, 404, 409, 413))
def submit(wish: BatchWish, seen: TheView, response: Response) -> Any:
    """Submit rows or a manifest as one batch: all of it, or nothing where a row is wrong."""
    if wish.manifest is not None:
        batch_id, report = submit_manifest(seen, wish)
        _log.info("api.submitted", key=seen.caller.name, batch=batch_id, rows=report.rows)
        response.headers["Location"] = f"/v1/batches/{batch_id}"
        figures = {name: getattr(report, name) for name in Loaded.model_fields}
        return {"id": batch_id, "jobs": [], "manifest": figures}
    batch_id, made = submit_batch(seen, wish)
    _log.info("api.submitted", key=seen.caller.name, batch=batch_id, jobs=len(made))
    response.headers["Location"] = f"/v1/batches/{batch_id}"
    rows = [{"id": each.job_id, "state": each.state, "created": each.created} for each in made]
    return {"id": batch_id, "jobs": rows}


@router.get("", response_model=BatchPage, responses=problems())
def list_(
    seen: TheView,
    cursor: Annotated[UUID | None, Query(description="`next` of the page before.")] = None,
    limit: Limit = 50,
) -> Any:
    """List batches, newest first."""
    found = seen.batches(limit + 1, before=cursor)
    more = found[limit - 1].batch.id if len(found) > limit else None
    items = [seen.plain_batch(each.batch) | {"counts": each.counts} for each in found[:limit]]
    return {"items": items, "next": more}


@router.get("/{batch}", response_model=BatchShape, responses=problems(404))
def show(batch: str, seen: TheView) -> Any:
    """Show a batch, by its name or id."""
    return _shown(seen, seen.batch(batch))


@router.delete("/{batch}", response_model=Count, responses=problems(404))
def cancel(batch: str, seen: TheView) -> Any:
    """Cancel all jobs of a batch that have not ended."""
    return {"jobs": seen.client.cancel(seen.jobs(batch=seen.batch(batch).id))}


@router.post("/{batch}/retry", response_model=Count, responses=problems(404, 409))
def retry(
    batch: str,
    seen: TheView,
    code: Annotated[str | None, Query(description="Only those that failed with it.")] = None,
) -> Any:
    """Give the jobs of a batch that failed a new life; cancelled ones stay cancelled."""
    which = seen.jobs(batch=seen.batch(batch).id, states=(State.FAILED,), code=code)
    return {"jobs": seen.client.retry(which)}


@router.post("/{batch}/pause", response_model=BatchShape, responses=problems(404, 409))
def pause(batch: str, seen: TheView) -> Any:
    """Start no job of the batch until it is resumed; running ones go on."""
    return _shown(seen, seen.client.pause(str(seen.batch(batch).id)))


@router.post("/{batch}/resume", response_model=BatchShape, responses=problems(404, 409))
def resume(batch: str, seen: TheView) -> Any:
    """Let a paused batch go on."""
    return _shown(seen, seen.client.resume(str(seen.batch(batch).id)))


def _shown(seen: Seen, batch: Batch) -> dict[str, Any]:
    return seen.plain_batch(batch) | {"counts": seen.store.counts(batch.id)}
