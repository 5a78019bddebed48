"""What travels through Redis: ids only, in JSON. A message says that there may be work.

A forged or repeated message can at most ask for a job that SQL says is due.
"""

from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

RUN_SHARD = "edict.run_shard"
"""Name of the one task; producers send it by name and never import the worker."""

MAX_SHARD_JOBS = 32


class Shard(BaseModel):
    """Jobs of one model that share an image, to be run by one task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    job_ids: tuple[UUID, ...] = Field(min_length=1, max_length=MAX_SHARD_JOBS)


def queue_name(model: str) -> str:
    """The queue that workers serving `model` read."""
    return f"edict.jobs.{model}"
