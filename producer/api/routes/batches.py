"""Batches: make them from rows, look at them, steer them."""

from typing import Annotated, Any
from uuid import UUID

import structlog
from fastapi import APIRouter, Query, Request, Response

from jobs.filters import JobFilter
from jobs.records import Batch
from jobs.states import State
from producer.api.parts import Limit, TheClient, problems
from producer.api.shapes import BatchPage, BatchShape, Count, MadeBatch
from producer.api.wishes import BatchWish, submit_batch
from producer.client import Client
from producer.plain import plain_batch

router = APIRouter(prefix="/v1/batches", tags=["batches"])
_log = structlog.get_logger()


@router.post("", status_code=201, response_model=MadeBatch, responses=problems(400, 409, 413))
def submit(wish: BatchWish, client: TheClient, request: Request, response: Response) -> Any:
    """Submit rows as one batch: all of them, or none where one is wrong."""
    batch_id, made = submit_batch(client, wish)
    _log.info("api.submitted", key=request.state.caller.name, batch=batch_id, jobs=len(made))
    response.headers["Location"] = f"/v1/batches/{batch_id}"
    rows = [{"id": each.job_id, "state": each.state, "created": each.created} for each in made]
    return {"id": batch_id, "jobs": rows}


@router.get("", response_model=BatchPage, responses=problems())
def list_(
    client: TheClient,
    cursor: Annotated[UUID | None, Query(description="`next` of the page before.")] = None,
    limit: Limit = 50,
) -> Any:
    """List batches, newest first."""
    found = client.store.batches(limit + 1, before=cursor)
    more = found[limit - 1].batch.id if len(found) > limit else None
    items = [plain_batch(each.batch) | {"counts": each.counts} for each in found[:limit]]
    return {"items": items, "next": more}


@router.get("/{batch}", response_model=BatchShape, responses=problems(404))
def show(batch: str, client: TheClient) -> Any:
    """Show a batch, by its name or id."""
    return _shown(client, client.store.batch(batch))


@router.delete("/{batch}", response_model=Count, responses=problems(404))
def cancel(batch: str, client: TheClient) -> Any:
    """Cancel all jobs of a batch that have not ended."""
    return {"jobs": client.cancel(JobFilter(batch=client.store.batch(batch).id))}


@router.post("/{batch}/retry", response_model=Count, responses=problems(404, 409))
def retry(
    batch: str,
    client: TheClient,
    code: Annotated[str | None, Query(description="Only those that failed with it.")] = None,
) -> Any:
    """Give the jobs of a batch that failed a new life; cancelled ones stay cancelled."""
    which = JobFilter(batch=client.store.batch(batch).id, states=(State.FAILED,), code=code)
    return {"jobs": client.retry(which)}


@router.post("/{batch}/pause", response_model=BatchShape, responses=problems(404, 409))
def pause(batch: str, client: TheClient) -> Any:
    """Start no job of the batch until it is resumed; running ones go on."""
    return _shown(client, client.pause(batch))


@router.post("/{batch}/resume", response_model=BatchShape, responses=problems(404, 409))
def resume(batch: str, client: TheClient) -> Any:
    """Let a paused batch go on."""
    return _shown(client, client.resume(batch))


def _shown(client: Client, batch: Batch) -> dict[str, Any]:
    return plain_batch(batch) | {"counts": client.store.counts(batch.id)}
