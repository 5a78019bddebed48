"""What runs: workers, and whether this server and its services do."""

from typing import Annotated, Any
from uuid import UUID

import structlog
from fastapi import APIRouter, Query, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from jobs.states import State
from jobs.store.base import utc_now
from producer.api.parts import Limit, TheClient, problems
from producer.api.seen import TheView
from producer.api.shapes import AuditPage, Models, Ready, Workers
from producer.checks import SERVICES, examine
from producer.metrics import Standing
from producer.plain import moment, plain_worker

READY_SECONDS = 5.0

router = APIRouter(tags=["running"])
_log = structlog.get_logger()


@router.get("/v1/workers", response_model=Workers, responses=problems())
def workers(seen: TheView) -> Any:
    """List the worker processes and what they have in hand; needs a key without a tenant."""
    seen.require_all()
    running = seen.store.find(seen.jobs(states=(State.RUNNING,)))
    now, lease = utc_now(), seen.client.settings.lease_seconds
    return {
        "items": [
            plain_worker(
                worker,
                [job for job in running if job.worker == worker.name],
                alive=(now - worker.seen_at).total_seconds() <= lease,
            )
            for worker in seen.store.workers()
        ]
    }


@router.get("/v1/models", response_model=Models, responses=problems())
def models(client: TheClient) -> Any:
    """The models that jobs may name, the default first."""
    return {"items": client.settings.models}


@router.get("/v1/submissions", response_model=AuditPage, responses=problems())
def submissions(
    seen: TheView,
    cursor: Annotated[UUID | None, Query(description="`next` of the page before.")] = None,
    limit: Limit = 50,
) -> Any:
    """Who submitted what over HTTP, newest first."""
    found = seen.store.submissions(limit + 1, before=cursor, tenant=seen.tenant)
    items = [
        {
            "id": each.id,
            "at": moment(each.at),
            "key": each.name,
            "tenant": each.tenant,
            "jobs": each.jobs,
            "bytes": each.bytes,
            "job": each.job_id,
            "batch": each.batch_id,
        }
        for each in found[:limit]
    ]
    return {"items": items, "next": found[limit - 1].id if len(found) > limit else None}


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems()},
)
def metrics(seen: TheView) -> Response:
    """How the deployment stands, for Prometheus; needs a key without a tenant."""
    seen.require_all()
    registry = CollectorRegistry()
    registry.register(Standing(seen.store))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/livez")
async def livez() -> dict[str, bool]:
    """Whether this process answers; it asks nobody else."""
    return {"alive": True}


@router.get("/readyz", response_model=Ready, responses={503: {"model": Ready}})
def readyz(client: TheClient, response: Response) -> Any:
    """Whether the database, its tables, Redis and the bucket answer."""
    found = examine(client.settings, limit=READY_SECONDS, checks=SERVICES)
    for each in found:
        if not each.good:
            # Only here: addresses are nothing for whoever asks.
            _log.warning("api.not_ready", service=each.name, reason=each.detail)
    ready = all(each.good for each in found)
    response.status_code = 200 if ready else 503
    return {"ready": ready, "checks": {each.name: each.good for each in found}}
