"""What travels through Redis: ids only, in JSON. A message says that there may be work.

A forged or repeated message can at most ask for a job that SQL says is due.
"""

from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.lanes import Lane
from jobs.specs import invalid_input

RUN_SHARD = "edict.run_shard"
"""Name of the one task; producers send it by name and never import the worker."""

MAX_SHARD_JOBS = 32


class Shard(BaseModel):
    """Jobs of one model that share an image, to be run by one task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    job_ids: tuple[UUID, ...] = Field(min_length=1, max_length=MAX_SHARD_JOBS)

    @classmethod
    def parse(cls, message: object) -> "Shard":
        """Read what came out of a queue.

        A version that is not ours is not guessed at: the jobs are still queued in SQL, so that
        they are announced again, to others and in the end by others.

        Raises:
            InvalidInput: it is none, or of a version that we do not know; names it.
        """
        try:
            return cls.model_validate(message)
        except ValidationError as error:
            raise invalid_input(error) from None


def queue_name(model: str, lane: Lane = Lane.BULK) -> str:
    """The queue of one lane for a model's label: its name, or `name@revision` for pinned jobs.

    Workers read both, and jobs of a revision that nobody serves are in nobody's way.
    """
    return f"edict.{lane}.{model}"
