"""Rows as plain JSON data, for `--json` and for whoever reads it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from jobs.records import Batch, Job, Worker


def plain_job(job: Job) -> dict[str, Any]:
    """Everything that a job's row says."""
    failed = {"code": job.error_code, "message": job.error_message}
    return {
        "id": str(job.id),
        "kind": job.kind,
        "state": job.state.value,
        "paused": job.paused,
        "model": job.model,
        "priority": job.priority,
        "lane": job.lane.value,
        "attempts": job.attempts,
        "worker": job.worker,
        "progress": job.progress,
        "error": failed if job.error_code else None,
        "times": {
            "submitted": moment(job.created_at),
            "due": moment(job.due_at),
            "queued": moment(job.queued_at),
            "started": moment(job.started_at),
            "finished": moment(job.finished_at),
            "lease_until": moment(job.lease_until),
        },
        "seconds": job.last_seconds,
        "spec": dict(job.stored_spec),
        "result": None if job.stored_result is None else dict(job.stored_result),
        "unreadable": job.unreadable,
    }


def plain_batch(batch: Batch) -> dict[str, Any]:
    """A batch's name, and whether it is paused."""
    return {
        "id": str(batch.id),
        "name": batch.name,
        "created": moment(batch.created_at),
        "paused": moment(batch.paused_at),
    }


def plain_worker(worker: Worker, running: Sequence[Job], *, alive: bool) -> dict[str, Any]:
    """A worker process, and what it has in hand."""
    return {
        "name": worker.name,
        "host": worker.host,
        "pid": worker.pid,
        "device": worker.device,
        "model": worker.model,
        "revision": worker.model_revision,
        "lanes": worker.lanes,
        "started": moment(worker.started_at),
        "seen": moment(worker.seen_at),
        "alive": alive,
        "jobs": [
            {
                "id": str(job.id),
                "kind": job.kind,
                "progress": job.progress,
                "started": moment(job.started_at),
            }
            for job in running
        ],
    }


def moment(when: datetime | None) -> str | None:
    """A moment in ISO 8601."""
    return None if when is None else when.isoformat()
