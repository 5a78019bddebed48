"""What runs: workers, and whether this server and its services do."""

from typing import Any

import structlog
from fastapi import APIRouter, Response

from jobs.filters import JobFilter
from jobs.states import State
from jobs.store.base import utc_now
from producer.api.parts import TheClient, problems
from producer.api.shapes import Ready, Workers
from producer.checks import SERVICES, examine
from producer.plain import plain_worker

READY_SECONDS = 5.0

router = APIRouter(tags=["running"])
_log = structlog.get_logger()


@router.get("/v1/workers", response_model=Workers, responses=problems())
def workers(client: TheClient) -> Any:
    """List the worker processes and what they have in hand."""
    running = client.store.find(JobFilter(states=(State.RUNNING,)))
    now, lease = utc_now(), client.settings.lease_seconds
    return {
        "items": [
            plain_worker(
                worker,
                [job for job in running if job.worker == worker.name],
                alive=(now - worker.seen_at).total_seconds() <= lease,
            )
            for worker in client.store.workers()
        ]
    }


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
