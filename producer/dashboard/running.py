"""Edits as they come into being, for whoever has their page open."""

from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from jobs.errors import ServiceUnavailable
from jobs.lanes import Lane
from jobs.previews import Previews, Stage
from jobs.records import Job
from jobs.states import State
from producer.client import Client

MEDIA_TYPE = "image/webp"


@dataclass(frozen=True)
class Running:
    """What a page shows of a job that runs."""

    preview: str | None = None
    """Names the preview that there is now."""
    stage: Stage | None = None


def look_at(client: Client, job: Job) -> Running:
    """What there is to show now; asks the worker for more. Nothing of bulk work."""
    if job.state != State.RUNNING or job.lane != Lane.INTERACTIVE:
        return Running()
    previews = Previews(client.app)
    try:
        previews.ask(job.id)
        shown = previews.shown(job.id)
    except ServiceUnavailable:
        # The page is of use without.
        return Running()
    name = None if shown.picture is None else sha256(shown.picture).hexdigest()[:12]
    return Running(name, shown.stage)


def preview_of(client: Client, job_id: UUID) -> bytes | None:
    """The preview, a WebP; None: there is none, or none any more.

    Raises:
        ServiceUnavailable: Redis does not answer.
    """
    return Previews(client.app).get(job_id)
