"""The Python client: submit work, follow it, take its results away.

with Client.from_settings(load_settings()) as client:
    source = client.sources.admit("cat.jpg")
    spec = EditSpec(source=source, model=client.model(), base_prompt="a cat", edit_prompt="a dog")
    [job] = client.submit([spec])
    for jobs in client.follow([job.job_id]): ...
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self
from uuid import UUID

import structlog
from celery import Celery

from jobs.celery_app import make_app
from jobs.database import check_database, open_database
from jobs.dispatch import dispatch
from jobs.errors import InvalidInput, ServiceUnavailable
from jobs.objects import ObjectStore
from jobs.records import Job, Submission
from jobs.settings import Settings, parse_model
from jobs.specs import ModelRef, Spec
from jobs.states import ENDED
from jobs.store import JobStore
from producer.sources import SourceDoor

_log = structlog.get_logger()

MAX_PRIORITY = 1_000


class Client:
    """Connections to the services, and what producers do with them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings.require_services()
        self.app: Celery = make_app(settings)
        self._engine = open_database(settings.database_url.get_secret_value())
        self.store = JobStore(self._engine, max_attempts=settings.max_attempts)
        self.objects = ObjectStore.from_settings(settings)
        self.sources = SourceDoor(
            self.objects,
            max_bytes=settings.max_source_bytes,
            max_pixels=settings.max_source_pixels,
        )

    def __enter__(self) -> Self:
        check_database(self._engine)
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
        batch_id: UUID | None = None,
        priority: int = 0,
        force: bool = False,
    ) -> list[Submission]:
        """Commit the jobs, then announce them. Where Redis is away, the control process does it.

        Raises:
            InvalidInput: a spec names a model that is not in the catalogue; nothing was committed.
        """
        wanted = list(specs)
        check_priority(priority)
        for name in {spec.model.name for spec in wanted}:
            self.model(name)
        submissions = self.store.submit(wanted, batch_id=batch_id, priority=priority, force=force)
        try:
            dispatch(self.store, self.app)
        except ServiceUnavailable as error:
            _log.warning("dispatch.postponed", reason=str(error))
        return submissions

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
