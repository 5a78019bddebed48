"""The client that waits for its answers."""

import time
from collections.abc import Iterator, Sequence
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


class RemoteSources:
    """The door for images, as `producer.sources.SourceDoor` has it."""

    def __init__(self, client: "RemoteClient") -> None:
        self._client = client

    def admit(self, where: str) -> Source:
        """Bring a local image to the bucket. It is looked at when a job names it.

        Raises:
            InvalidInput: it cannot be read, or is too large.
            AccessDenied, ServiceUnavailable: what the server answered.
        """
        return self.upload(image_at(where))

    def upload(self, data: bytes) -> Source:
        """Bring an image given as bytes to the bucket; see `admit`."""
        return self._client.run(calls.upload(data))


class RemoteClient:
    """What producers do, over HTTP. Safe to share between threads."""

    def __init__(self, url: str, *, key: str | None = None, seconds: float = 60.0) -> None:
        self._url = check_url(url)
        self._key = key
        self._http = httpx.Client(timeout=seconds, trust_env=asks_proxies(url))
        self.sources = RemoteSources(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def run(self, call: Call[T]) -> T:
        """Have a call's requests answered; returns what it wanted.

        Raises:
            ServiceUnavailable: no answer came.
        """
        try:
            request = next(call)
            while True:
                request = call.send(self._send(request))
        except StopIteration as done:
            result: T = done.value
            return result

    def _send(self, request: Request) -> Reply:
        options = options_of(request, self._url, self._key)
        for wait in (*WAITS, None):
            try:
                reply = reply_of(self._http.request(**options))
            except httpx.HTTPError as error:
                if wait is None or not is_repeatable(request):
                    raise unreachable(self._url, error) from None
            else:
                if wait is None or not is_to_be_repeated(request, reply):
                    return reply
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def model(self, name: str | None = None) -> ModelRef:
        """The model of that name in the server's catalogue, or its default.

        Raises:
            InvalidInput: there is none of that name.
        """
        return model_ref(self.run(calls.ask("GET", "/v1/models")), name)

    def submit(
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
        return self.run(
            calls.submit(
                specs,
                batch=batch,
                priority=priority,
                force=force,
                webhook=webhook,
                batch_webhook=batch_webhook,
            )
        )

    def job(self, job_id: UUID) -> Job:
        """Read one job."""
        return self.run(calls.job(job_id))

    def jobs(self, which: JobFilter | None = None, *, limit: int | None = None) -> list[Job]:
        """The jobs that a filter means, newest first."""
        return self.run(calls.jobs(which or JobFilter(), limit))

    def failures(self, which: JobFilter | None = None, *, limit: int | None = None) -> list[Job]:
        """Failed jobs that a filter means, newest first."""
        return self.jobs(calls.failed(which), limit=limit)

    def cancel(self, job_ids: Sequence[UUID]) -> int:
        """Stop these jobs, as far as they have not ended; says how many."""
        return self.run(calls.steer_jobs("DELETE", job_ids, ""))

    def retry(self, job_ids: Sequence[UUID]) -> int:
        """Give these jobs a new life, as far as they ended badly; says how many."""
        return self.run(calls.steer_jobs("POST", job_ids, "/retry"))

    def batch(self, name_or_id: str) -> Batch:
        """Find a batch."""
        return self.run(calls.batch(name_or_id))

    def counts(self, batch: str) -> dict[State, int]:
        """How many of a batch's jobs are in each state."""
        return self.run(calls.counts(batch))

    def pause(self, batch: str) -> Batch:
        """Start no job of the batch until it is resumed."""
        return self.run(calls.steer_batch(batch, "pause"))

    def resume(self, batch: str) -> Batch:
        """Let a paused batch go on."""
        return self.run(calls.steer_batch(batch, "resume"))

    def results(self, job_id: UUID) -> list[ResultFile]:
        """The files that a job made."""
        return self.run(calls.results(job_id))

    def download(self, file: ResultFile) -> bytes:
        """A file's bytes."""
        return self.run(calls.download(file))

    def follow(self, job_ids: Sequence[UUID], *, interval: float = 0.5) -> Iterator[list[Job]]:
        """Yield the jobs as they stand, every `interval` seconds, until all have ended."""
        while True:
            found = [self.job(job_id) for job_id in job_ids]
            yield found
            if all(job.state in ENDED for job in found):
                return
            time.sleep(interval)
