"""The client that awaits its answers: as `RemoteClient`, with `await`."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self, TypeVar
from uuid import UUID

import httpx

from jobs.filters import JobFilter
from jobs.records import Batch, Job, Submission
from jobs.specs import ModelRef, Source, Spec
from jobs.states import ENDED, State
from producer.remote import calls
from producer.remote.calls import Call, Reply, Request, ResultFile
from producer.remote.models import model_ref
from producer.remote.sending import (
    WAITS,
    asks_proxies,
    check_url,
    image_at,
    is_repeatable,
    is_to_be_repeated,
    options_of,
    reply_of,
    unreachable,
)

T = TypeVar("T")


class AsyncRemoteSources:
    """The door for images, as `producer.sources.SourceDoor` has it."""

    def __init__(self, client: "AsyncRemoteClient") -> None:
        self._client = client

    async def admit(self, where: str) -> Source:
        """Bring a local image to the bucket. It is looked at when a job names it.

        Raises:
            InvalidInput: it cannot be read, or is too large.
            AccessDenied, ServiceUnavailable: what the server answered.
        """
        return await self.upload(image_at(where))

    async def upload(self, data: bytes) -> Source:
        """Bring an image given as bytes to the bucket; see `admit`."""
        return await self._client.run(calls.upload(data))


class AsyncRemoteClient:
    """What producers do, over HTTP. For one event loop."""

    def __init__(self, url: str, *, key: str | None = None, seconds: float = 60.0) -> None:
        self._url = check_url(url)
        self._key = key
        self._http = httpx.AsyncClient(timeout=seconds, trust_env=asks_proxies(url))
        self.sources = AsyncRemoteSources(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def run(self, call: Call[T]) -> T:
        """Have a call's requests answered; returns what it wanted.

        Raises:
            ServiceUnavailable: no answer came.
        """
        try:
            request = next(call)
            while True:
                request = call.send(await self._send(request))
        except StopIteration as done:
            result: T = done.value
            return result

    async def _send(self, request: Request) -> Reply:
        options = options_of(request, self._url, self._key)
        for wait in (*WAITS, None):
            try:
                reply = reply_of(await self._http.request(**options))
            except httpx.HTTPError as error:
                if wait is None or not is_repeatable(request):
                    raise unreachable(self._url, error) from None
            else:
                if wait is None or not is_to_be_repeated(request, reply):
                    return reply
            await asyncio.sleep(wait)
        raise AssertionError("the last try returns or raises")

    async def model(self, name: str | None = None) -> ModelRef:
        """The model of that name in the server's catalogue, or its default.

        Raises:
            InvalidInput: there is none of that name.
        """
        return model_ref(await self.run(calls.ask("GET", "/v1/models")), name)

    async def submit(
        self,
        specs: Sequence[Spec],
        *,
        batch: str | None = None,
        priority: int = 0,
        force: bool = False,
        webhook: str | None = None,
        batch_webhook: str | None = None,
    ) -> list[Submission]:
        """Submit specs; see `producer.client.Client.submit`.

        Raises:
            InvalidInput: names the field that is wrong.
            AccessDenied, ServiceUnavailable: what the server answered.
        """
        return await self.run(
            calls.submit(
                specs,
                batch=batch,
                priority=priority,
                force=force,
                webhook=webhook,
                batch_webhook=batch_webhook,
            )
        )

    async def job(self, job_id: UUID) -> Job:
        """Read one job."""
        return await self.run(calls.job(job_id))

    async def jobs(self, which: JobFilter | None = None, *, limit: int | None = None) -> list[Job]:
        """The jobs that a filter means, newest first."""
        return await self.run(calls.jobs(which or JobFilter(), limit))

    async def failures(
        self, which: JobFilter | None = None, *, limit: int | None = None
    ) -> list[Job]:
        """Failed jobs that a filter means, newest first."""
        return await self.jobs(calls.failed(which), limit=limit)

    async def cancel(self, job_ids: Sequence[UUID]) -> int:
        """Stop these jobs, as far as they have not ended; says how many."""
        return await self.run(calls.steer_jobs("DELETE", job_ids, ""))

    async def retry(self, job_ids: Sequence[UUID]) -> int:
        """Give these jobs a new life, as far as they ended badly; says how many."""
        return await self.run(calls.steer_jobs("POST", job_ids, "/retry"))

    async def batch(self, name_or_id: str) -> Batch:
        """Find a batch."""
        return await self.run(calls.batch(name_or_id))

    async def counts(self, batch: str) -> dict[State, int]:
        """How many of a batch's jobs are in each state."""
        return await self.run(calls.counts(batch))

    async def pause(self, batch: str) -> Batch:
        """Start no job of the batch until it is resumed."""
        return await self.run(calls.steer_batch(batch, "pause"))

    async def resume(self, batch: str) -> Batch:
        """Let a paused batch go on."""
        return await self.run(calls.steer_batch(batch, "resume"))

    async def results(self, job_id: UUID) -> list[ResultFile]:
        """The files that a job made."""
        return await self.run(calls.results(job_id))

    async def download(self, file: ResultFile) -> bytes:
        """A file's bytes."""
        return await self.run(calls.download(file))

    async def follow(
        self, job_ids: Sequence[UUID], *, interval: float = 0.5
    ) -> AsyncIterator[list[Job]]:
        """Yield the jobs as they stand, every `interval` seconds, until all have ended."""
        while True:
            found = [await self.job(job_id) for job_id in job_ids]
            yield found
            if all(job.state in ENDED for job in found):
                return
            await asyncio.sleep(interval)
