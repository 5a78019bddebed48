"""What a caller sees: a key of a tenant sees that tenant's jobs and batches, and no others.

Routes and pages read through here, never from the store directly, so that what is somebody else's
is answered as what does not exist.
"""

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Request

from jobs.errors import NotFound
from jobs.filters import JobFilter
from jobs.records import Batch, Job
from jobs.store import JobStore
from jobs.store.listing import BatchCounts
from producer.api.access import LOCAL, Caller
from producer.api.problems import Refused
from producer.client import Client
from producer.plain import plain_batch


@dataclass(frozen=True)
class Seen:
    """The deployment as one caller sees it."""

    client: Client
    caller: Caller

    @property
    def store(self) -> JobStore:
        """For what is no tenant's in particular."""
        return self.client.store

    @property
    def tenant(self) -> str | None:
        """Whose things are seen; None: everybody's."""
        return self.caller.tenant

    def job(self, job_id: UUID) -> Job:
        """Read one job.

        Raises:
            NotFound: there is none of that id, or it is another tenant's.
        """
        job = self.store.job(job_id)
        if self.tenant is not None and job.tenant != self.tenant:
            raise NotFound(f"there is no job {job_id}")
        return job

    def batch(self, name_or_id: str) -> Batch:
        """Find a batch by its name or id.

        Raises:
            NotFound: there is none, or it is another tenant's.
        """
        if self.tenant is None:
            return self.store.batch(name_or_id)
        for name in (f"{self.tenant}/{name_or_id}", name_or_id):
            try:
                found = self.store.batch(name)
            except NotFound:
                continue
            if found.tenant == self.tenant:
                return found
        raise NotFound(f"there is no batch {name_or_id!r}")

    def batches(self, limit: int, *, before: UUID | None = None) -> list[BatchCounts]:
        """The batches made before one of them, newest first."""
        return self.store.batches(limit, before=before, tenant=self.tenant)

    def jobs(self, **fields: Any) -> JobFilter:
        """The jobs that these fields mean, as far as they are seen."""
        return JobFilter(tenant=self.tenant, **fields)

    def name_of(self, batch: Batch) -> str | None:
        """A batch's name as its tenant wrote it; whoever sees all sees whose it is."""
        if batch.name is None or self.tenant is None:
            return batch.name
        return batch.name.removeprefix(f"{self.tenant}/")

    def plain_batch(self, batch: Batch) -> dict[str, Any]:
        """A batch as it is answered."""
        return plain_batch(batch) | {"name": self.name_of(batch)}

    def may_still_look(self) -> bool:
        """Whether the caller's key has not ended since the request came."""
        return self.caller == LOCAL or self.store.is_live_key(UUID(self.caller.id))

    def require_all(self) -> None:
        """Keep tenants out of what concerns the whole deployment.

        Raises:
            Refused: the caller is a tenant's.
        """
        if self.tenant is not None:
            detail = f"the key {self.caller.name!r} is a tenant's; this is about the deployment"
            raise Refused(403, "forbidden", detail)


def _seen(request: Request) -> Seen:
    return Seen(request.app.state.client, request.state.caller)


TheView = Annotated[Seen, Depends(_seen)]
