"""What the tests of real worker processes give them to do, and how they look at it."""

from typing import Any
from uuid import UUID

from jobs.specs import ReconstructionSpec, SamplerOptions
from jobs.states import State
from jobs.store import JobStore
from producer.client import Client
from tests.worker.conftest import picture

LONG = SamplerOptions(steps=80, strength=1.0, mix=0.99, guidance_scale=1.0)


def submit(
    client: Client,
    seed: int = 0,
    sampler: SamplerOptions = LONG,
    priority: int = 0,
    **fields: Any,
) -> UUID:
    """A job that takes some seconds."""
    source = client.sources.upload(picture(seed), f"picture {seed}")
    spec = ReconstructionSpec(source=source, model=client.model(), sampler=sampler, **fields)
    return client.submit([spec], priority=priority)[0].job_id


def succeeded(store: JobStore, job_id: UUID) -> bool:
    job = store.job(job_id)
    assert job.state not in (State.FAILED, State.CANCELLED), job.error_message
    return job.state == State.SUCCEEDED


def in_the_middle(store: JobStore, job_id: UUID) -> bool:
    job = store.job(job_id)
    return job.state == State.RUNNING and (job.progress or 0) > 0.05
