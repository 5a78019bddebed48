"""One deployment for all faults: what one of them breaks must be whole for the next."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from random import Random

import pytest
from sqlalchemy import Engine

from jobs.database import open_database
from producer.client import Client
from tests.faults.deployment import Deployment
from tests.faults.expectations import Findings, check_jobs, unfinished
from tests.faults.reference import Reference
from tests.faults.workload import Submitter, Workload
from tests.pipeline import eventually

STEPS = 6
"""Of the jobs that a single fault meets: enough for it to come in their middle."""
FEW_STEPS = 2


@dataclass
class Field:
    """A running deployment, work for it, and what is expected of it."""

    deployment: Deployment
    client: Client
    engine: Engine
    submitter: Submitter
    reference: Reference
    chance: Random

    def submit(self, groups: int = 4, steps: int = STEPS) -> Workload:
        return self.submitter.submit(groups, steps)

    def in_the_middle(self, workload: Workload, ended: int = 1) -> None:
        """Wait until some jobs have ended, and make sure that others have not."""
        total = len(workload.job_ids)
        eventually(lambda: unfinished(self.engine, workload.job_ids) <= total - ended, seconds=300)
        assert unfinished(self.engine, workload.job_ids) > 0, "the fault comes too late"

    def finish(self, workload: Workload, seconds: float = 300.0) -> Findings:
        """Wait for the end of all, starting what died, and check it."""

        def ended() -> bool:
            self.deployment.tend()
            return unfinished(self.engine, workload.job_ids) == 0

        eventually(ended, seconds=seconds)
        with self.deployment.bucket() as objects:
            return check_jobs(self.engine, objects, workload, self.reference.pixels)


@pytest.fixture(scope="session")
def open_field(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., AbstractContextManager[Field]]]:
    """Opens deployments with a client; what runs in them is started by the caller."""

    @contextmanager
    def opened(**options: int) -> Iterator[Field]:
        folder = tmp_path_factory.mktemp("faults")
        with Deployment(folder, **options) as deployment:
            engine = open_database(deployment.database_url)
            with Client(deployment.settings) as client:
                submitter = Submitter(client)
                chance = Random(0)  # noqa: S311
                yield Field(deployment, client, engine, submitter, reference, chance)
            engine.dispose()

    with Reference(STEPS, FEW_STEPS) as reference:
        yield opened
