"""Which jobs a command means: names of jobs and batches, and what narrows them down."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from uuid import UUID

import typer

from jobs.filters import JobFilter

if TYPE_CHECKING:
    from producer.client import Client


@dataclass
class Selection:
    """Jobs by their ids, and all that some filters mean."""

    job_ids: list[UUID] = field(default_factory=list)
    filters: list[JobFilter] = field(default_factory=list)

    def count(self, client: "Client") -> int:
        """How many jobs the filters mean."""
        return sum(client.store.count(which) for which in self.filters)


def selected(
    client: "Client", names: Sequence[str], narrow: JobFilter, *, everything: bool
) -> Selection:
    """The jobs that are named, or all that `narrow` means in the batches that are named.

    Raises:
        NotFound: there is no job or batch of a name.
        InvalidInput: nothing is named at all, or a single job is to be narrowed down.
    """
    from jobs.errors import InvalidInput

    # States alone say nothing: every command has its own.
    narrows = not replace(narrow, states=()).is_empty
    if not names and not narrows and not everything:
        raise InvalidInput("jobs", "name jobs or batches, or a filter; --all means every job")
    found = Selection()
    for name in names:
        if (job_id := _job_id(client, name)) is None:
            found.filters.append(replace(narrow, batch=client.store.batch(name).id))
        elif narrows:
            raise InvalidInput("jobs", f"{name} is one job: leave the filters out")
        else:
            found.job_ids.append(job_id)
    if not names:
        found.filters.append(narrow)
    return found


def _job_id(client: "Client", name: str) -> UUID | None:
    from jobs.errors import NotFound

    with suppress(ValueError, NotFound):
        return client.store.job(UUID(name)).id
    return None


def confirmed(
    client: "Client",
    verb: str,
    names: Sequence[str],
    narrow: JobFilter,
    *,
    everything: bool,
    yes: bool,
) -> Selection:
    """What `selected` gives, asked about first unless ids alone name it, or `yes`.

    Anything but yes for an answer ends the command.
    """
    meant = selected(client, names, narrow, everything=everything)
    count = meant.count(client)
    if count and not yes:
        typer.confirm(f"{verb} {count} jobs?", abort=True, err=True)
    return meant
