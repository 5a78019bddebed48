"""Edits as they come into being, for whoever has their page open."""

from hashlib import sha256
from uuid import UUID

from jobs.errors import ServiceUnavailable
from jobs.lanes import Lane
from jobs.previews import Previews
from jobs.records import Job
from jobs.states import State
from producer.client import Client

MEDIA_TYPE = "image/webp"


def preview_version(client: Client, job: Job) -> str | None:
    """Names the preview that there is now, and asks the worker for the next; None without one."""
    if job.state != State.RUNNING or job.lane != Lane.INTERACTIVE:
        return None
    previews = Previews(client.app)
    try:
        previews.ask(job.id)
        data = previews.get(job.id)
    except ServiceUnavailable:
        # The page is of use without.
        return None
    return None if data is None else sha256(data).hexdigest()[:12]


def preview_of(client: Client, job_id: UUID) -> bytes | None:
    """The preview, a WebP; None: there is none, or none any more.

    Raises:
        ServiceUnavailable: Redis does not answer.
    """
    return Previews(client.app).get(job_id)
