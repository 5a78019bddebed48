"""What travels through Redis: ids only, in JSON. A message says that there may be work.

A forged or repeated message can at most ask for a job that SQL says is due.
"""

from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from jobs.lanes import Lane

RUN_SHARD = "edict.run_shard"
"""Name of the one task; producers send it by name and never import the worker."""

MAX_SHARD_JOBS = 32


class Shard(BaseModel):
    """Jobs of one model that share an image, to be run by one task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    job_ids: tuple[UUID, ...] = Field(min_length=1, max_length=MAX_SHARD_JOBS)


def queue_name(model: str, lane: Lane = Lane.BULK) -> str:
    """The queue of one lane for a model's label: its name, or `name@revision` for pinned jobs.

    Workers read both, and jobs of a revision that nobody serves are in nobody's way.
    """
    return f"edict.{lane}.{model}"
