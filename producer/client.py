"""The Python client: submit work, follow it, take its results away.

with Client.from_settings(load_settings()) as client:
    source = client.sources.admit("cat.jpg")
    spec = EditSpec(source=source, model=client.model(), base_prompt="a cat", edit_prompt="a dog")
    [job] = client.submit([spec])
    for jobs in client.follow([job.job_id]): ...
"""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self
from uuid import UUID

import structlog
from celery import Celery

from jobs.addresses import parse_networks
from jobs.celery_app import check_broker, make_producers_app
from jobs.database import open_database
from jobs.dispatch import dispatch
from jobs.errors import InvalidInput, ServiceUnavailable
from jobs.filters import JobFilter
from jobs.objects import ObjectStore
from jobs.records import Batch, Job, Submission
from jobs.services import check_tables, wait_for_services
from jobs.settings import Settings, parse_model
from jobs.specs import ModelRef, Spec
from jobs.states import ENDED, State
from jobs.store import JobStore
from jobs.tracing import span
from jobs.webhooks import check_webhook_url
from producer.sources import SourceDoor

_log = structlog.get_logger()

MAX_PRIORITY = 1_000


class Client:
    """Connections to the services, and what producers do with them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings.require_services()
        self.app: Celery = make_producers_app(settings)
        self._engine = open_database(settings.database_url.get_secret_value())
        self.store = JobStore(self._engine, max_attempts=settings.max_attempts)
        self.objects = ObjectStore.from_settings(settings)
        self.sources = SourceDoor(
            self.objects,
            max_bytes=settings.max_source_bytes,
            max_pixels=settings.max_source_pixels,
        )

    def __enter__(self) -> Self:
        # Before anything is done: half of it might be possible on an older version's tables.
        check_tables(self._engine)
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
        self.app.close()
        self.objects.close()
        self._engine.dispose()

    def wait_for_services(self, stop: threading.Event) -> bool:
        """Wait until the database and Redis answer; False if `stop` was set before.

        Raises:
            ConfigurationError: the URL of one of them is not one.
        """
        checks = {
            "database": lambda: check_tables(self._engine),
            "redis": lambda: check_broker(self.app),
        }
        return wait_for_services(checks, stop)

    def model(self, name: str | None = None) -> ModelRef:
        """The model of that name (None: the default), if the deployment's catalogue has it.

        Raises:
            InvalidInput: it is not in the catalogue; says what is.
        """
        wanted = name or self.settings.default_model
        catalogue = {parse_model(known)[0]: known for known in self.settings.models}
        base, revision = parse_model(wanted)
        if base not in catalogue:
            raise InvalidInput(
                "model",
                f"{wanted!r} is not in the catalogue ({', '.join(self.settings.models)}); "
                "add it to EDICT_MODELS and start a worker for it",
            )
        return ModelRef(name=base, revision=revision or parse_model(catalogue[base])[1])

    def submit(
        self,
        specs: Iterable[Spec],
        *,
        batch: str | None = None,
        batch_id: UUID | None = None,
        priority: int = 0,
        force: bool = False,
        webhook: str | None = None,
        batch_webhook: str | None = None,
        tenant: str | None = None,
    ) -> list[Submission]:
        """Commit the jobs, then announce them, as far as that is due.

        They become members of the batch of that name, which is made if need be, or of that id.
        Jobs of a `priority` of `lanes.INTERACTIVE_PRIORITY` or more go before all bulk work. What
        is not announced here (a long submission, or Redis is away) the control process announces.

        `webhook` is told of each job's end, `batch_webhook` of the batch's (see `jobs.webhooks`).

        Raises:
            InvalidInput: a spec names a model that is not in the catalogue, or a webhook is none;
                nothing was committed.
        """
        if batch_id is None and batch is None:
            webhook = webhook or self.settings.webhook_url
        else:
            batch_webhook = batch_webhook or self.settings.webhook_url
        self.check_webhooks(webhook, batch_webhook)
        wanted = list(specs)
        check_priority(priority)
        for name in {spec.model.name for spec in wanted}:
            self.model(name)
        with span("submit", jobs=len(wanted)):
            if batch is not None:
                batch_id = self.store.open_batch(batch, tenant=tenant).id
            submissions = self.store.submit(
                wanted, batch_id=batch_id, priority=priority, force=force, tenant=tenant
            )
            if webhook:
                self.store.subscribe_to_jobs([made.job_id for made in submissions], webhook)
            if batch_webhook and batch_id is not None:
                # After its jobs are there: before, it would look as if it had ended.
                self.store.subscribe_to_batch(batch_id, batch_webhook)
            self._announce([each.job_id for each in submissions if each.state is State.PENDING])
        return submissions

    def subscribe_to_settings(self, batch_id: UUID) -> None:
        """Have the webhook of the settings, if there is one, told of a batch's end.

        Call it once the batch's jobs are there: before, it would look as if it had ended.

        Raises:
            InvalidInput: the webhook is none.
        """
        if url := self.settings.webhook_url:
            self.check_webhooks(url)
            self.store.subscribe_to_batch(batch_id, url)

    def subscribe_to_batch(self, batch_id: UUID, url: str) -> None:
        """Have a webhook told of a batch's end; as `subscribe_to_settings`."""
        self.check_webhooks(url)
        self.store.subscribe_to_batch(batch_id, url)

    def check_webhooks(self, *urls: str | None) -> None:
        """Refuse URLs that could not be told of anything; None and "" are none.

        Raises:
            InvalidInput: says which, and why.
        """
        for url in filter(None, urls):
            check_webhook_url(url, parse_networks(self.settings.webhook_allow))

    def _announce(self, job_ids: Sequence[UUID]) -> None:
        """Announce these jobs and nobody else's."""
        if not job_ids:
            return
        try:
            window = self.settings.announce_window
            dispatch(self.store, self.app, window=window, among=job_ids)
        except ServiceUnavailable as error:
            _log.warning("dispatch.postponed", reason=str(error))

    def cancel(self, which: JobFilter | Sequence[UUID]) -> int:
        """Stop these jobs, as far as they have not ended; says how many. Running ones stop soon."""
        if isinstance(which, JobFilter):
            return self.store.cancel_where(which)
        return self.store.cancel(which)

    def retry(self, which: JobFilter | Sequence[UUID]) -> int:
        """Give these jobs a new life, as far as they failed or were cancelled; says how many."""
        if isinstance(which, JobFilter):
            return self.store.retry_where(which)
        retried = self.store.retry(which)
        self._announce(which)
        return retried

    def job(self, job_id: UUID) -> Job:
        """Read one job.

        Raises:
            NotFound: there is none of that id.
        """
        return self.store.job(job_id)

    def batch(self, name_or_id: str) -> Batch:
        """Find a batch.

        Raises:
            NotFound: there is none.
        """
        return self.store.batch(name_or_id)

    def counts(self, batch: str) -> dict[State, int]:
        """How many of a batch's jobs are in each state."""
        return self.store.counts(self.store.batch(batch).id)

    def jobs(self, which: JobFilter | None = None, *, limit: int | None = None) -> list[Job]:
        """The jobs that a filter means, newest first."""
        return self.store.list_jobs(which or JobFilter(), None, limit)

    def pause(self, batch: str) -> Batch:
        """Start no job of the batch of that name or id until it is resumed; running ones go on.

        Raises:
            NotFound: there is no such batch.
        """
        self.store.pause_batch(self.store.batch(batch).id)
        return self.store.batch(batch)

    def resume(self, batch: str) -> Batch:
        """Let a paused batch go on.

        Raises:
            NotFound: there is no such batch.
        """
        self.store.resume_batch(self.store.batch(batch).id)
        return self.store.batch(batch)

    def failures(self, which: JobFilter | None = None, *, limit: int | None = None) -> list[Job]:
        """The dead letters: failed jobs that `which` means (None: all), the last to fail first."""
        failed = replace(which or JobFilter(), states=(State.FAILED,))
        return self.store.find(failed, limit=limit, newest_end_first=True)

    def follow(self, job_ids: Sequence[UUID], *, interval: float = 0.5) -> Iterator[list[Job]]:
        """Yield the jobs as they stand, every `interval` seconds, until all have ended."""
        while True:
            jobs = [self.store.job(job_id) for job_id in job_ids]
            yield jobs
            if all(job.state in ENDED for job in jobs):
                return
            time.sleep(interval)


def check_priority(priority: int) -> None:
    """Refuse what is out of bounds.

    Raises:
        InvalidInput: says the bounds.
    """
    if not -MAX_PRIORITY <= priority <= MAX_PRIORITY:
        raise InvalidInput("priority", f"{priority} is not from {-MAX_PRIORITY} to {MAX_PRIORITY}")
