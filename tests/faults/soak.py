"""Thousands of jobs under all faults together, and a table of what came of them.

    python -m tests.faults.soak [--jobs 10000] [--minutes 120] [--workers 2] [--seed 0]

Faults go on until the last job has ended. The exit status is 0 when every expectation holds (see
`expectations`); the folder with all logs is kept where one does not. `make soak` runs it.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from jobs.database import open_database
from producer.client import Client
from tests.faults.chaos import Chaos
from tests.faults.deployment import LEASE_SECONDS, Deployment
from tests.faults.expectations import (
    Findings,
    check_jobs,
    check_no_strays,
    check_stopped,
    unfinished,
)
from tests.faults.faults import PROCESSES, SERVICES
from tests.faults.reference import Reference
from tests.faults.workload import GROUP, Submitter, Workload
from tests.pipeline import eventually

STEPS = 2
ATTEMPTS = 100
"""A job that is lost again and again while it runs alone is to blame; here none of them is."""
LOOK_SECONDS = 5.0


@dataclass
class Soak:
    """One long run."""

    jobs: int
    minutes: float
    workers: int
    seed: int
    pause: float
    """Seconds from the end of a fault to the next of its kind, on the average (see `Chaos`)."""

    def run(self, folder: Path) -> dict[str, object]:
        """Run it, check it, and give the rows of its table.

        Raises:
            AssertionError: an expectation does not hold, or the time was too short.
        """
        options = {"workers": self.workers, "max_attempts": ATTEMPTS}
        with Reference(STEPS) as reference, Deployment(folder, **options) as deployment:
            # Looks at very much: the database ends transactions that do nothing for seconds.
            engine = open_database(deployment.database_url).execution_options(
                isolation_level="AUTOCOMMIT"
            )
            with Client(deployment.settings) as client:
                submitter = Submitter(client)
                deployment.start_processes()
                begun = time.monotonic()
                pause = (0.5 * self.pause, 1.5 * self.pause)
                chaos = Chaos(deployment, pause=pause, seed=self.seed)
                with chaos:
                    workload = submitter.submit(-(-self.jobs // GROUP), STEPS, patient=True)
                    self._wait(engine, workload, begun)
                seconds = time.monotonic() - begun
            with deployment.bucket() as objects:
                findings = check_jobs(engine, objects, workload, reference.pixels)
                eventually(deployment.is_ready)
                statuses = deployment.stop_processes()
                check_no_strays(engine, objects)
            assert set(statuses) == {0}, f"processes ended with {statuses}"
            time.sleep(LEASE_SECONDS)
            check_stopped(deployment, engine, LEASE_SECONDS)
            engine.dispose()
        return _table(findings, chaos, seconds)

    def _wait(self, engine: Engine, workload: Workload, begun: float) -> None:
        left = len(workload.job_ids)
        while left:
            spent = time.monotonic() - begun
            assert spent < 60 * self.minutes, f"{left} jobs are left after {self.minutes:g} minutes"
            time.sleep(LOOK_SECONDS)
            try:
                left = unfinished(engine, workload.job_ids)
            except SQLAlchemyError:
                continue  # the database is one of the things that break
            sys.stderr.write(f"{spent:6.0f} s: {left} jobs left\n")


def _table(findings: Findings, chaos: Chaos, seconds: float) -> dict[str, object]:
    struck: Mapping[str, int] = chaos.struck
    attempts = findings.attempts
    return {
        "jobs that succeeded, each exactly once, with the right pixels": findings.succeeded,
        "jobs with a rubbish image, each refused as such": findings.refused,
        "jobs lost, doubled, or ended wrongly": 0,
        "minutes": round(seconds / 60, 1),
        **{
            f"{fault.__name__.replace('_', ' ')}, times": struck.get(fault.__name__, 0)
            for fault in (*PROCESSES, *SERVICES)
        },
        "processes started again": chaos.restarts,
        "worker processes that ended a job": len(findings.workers),
        "running jobs taken back": findings.taken_back,
        "jobs that needed 1 / 2 / 3 / more attempts": " / ".join(
            str(count) for count in (attempts[1], attempts[2], attempts[3], _beyond(attempts, 3))
        ),
        "stored inversions for these jobs": findings.latents,
        "processes, leases, results left behind": 0,
    }


def _beyond(attempts: Mapping[int, int], most: int) -> int:
    return sum(count for number, count in attempts.items() if number > most)


def main() -> int:
    """Run and print; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=120.0, help="give up after this time")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the faults' order")
    parser.add_argument(
        "--pause", type=float, default=4.0, help="seconds between two faults of a kind, on average"
    )
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="edict-soak-"))
    try:
        rows = Soak(**vars(options)).run(folder)
    except AssertionError as error:
        sys.stderr.write(f"{error}\nThe logs are in {folder}\n")
        return 1
    shutil.rmtree(folder)
    sys.stdout.write("| | |\n|---|---|\n")
    sys.stdout.writelines(f"| {name} | {value} |\n" for name, value in rows.items())
    return 0


if __name__ == "__main__":
    sys.exit(main())
