"""What real processes say of a job: a line for each change of its state, with what names it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from jobs.processes import Child
from jobs.specs import EditSpec, ReconstructionSpec
from jobs.states import ENDED
from producer.client import Client
from tests.pipeline import eventually
from tests.worker.conftest import FEW_STEPS, picture
from tests.worker.processes import LONG, in_the_middle

pytestmark = pytest.mark.slow


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def test_each_change_of_a_jobs_state_is_one_line_that_names_job_batch_worker_and_device(
    client: Client, start: Callable[..., Child], tmp_path: Path
):
    # Given a job that succeeds, one that fails, and one that a stopping worker gives back
    batch = client.store.open_batch("said").id
    shared = {"source": client.sources.upload(picture(), "picture"), "model": client.model()}
    specs = [
        ReconstructionSpec(**shared, sampler=FEW_STEPS),
        EditSpec(**shared, sampler=FEW_STEPS, edit_prompt="very " * 40 + "long"),
        ReconstructionSpec(**shared, sampler=LONG),
    ]

    def submit(*wanted: ReconstructionSpec | EditSpec) -> list[UUID]:
        # Not by the client, which announces what it makes without a line.
        return [each.job_id for each in client.store.submit(wanted, batch_id=batch)]

    control = start("control")
    worker = start("worker", "--devices", "cpu", EDICT_STOP_GRACE_SECONDS="0")
    good, bad = submit(*specs[:2])
    eventually(lambda: {client.store.job(each).state for each in (good, bad)} <= {*ENDED})
    [held] = submit(specs[2])
    eventually(lambda: in_the_middle(client.store, held))
    worker.stop(60)
    control.stop(60)

    # Then each was announced once, by control
    told = [each for each in lines(tmp_path / "control.log") if each["event"] == "jobs.announced"]
    announced = [job_id for line in told for job_id in line["jobs"]]
    assert announced.count(str(good)) == announced.count(str(bad)) == 1

    # And the worker said once what became of it, and who and where it was
    said = [line for line in lines(tmp_path / "worker.log") if line["event"].startswith("job.")]
    ends = {good: "job.succeeded", bad: "job.failed", held: "job.given_back"}
    for job_id, end in ends.items():
        own = [line for line in said if line["job"] == str(job_id)]
        assert [line["event"] for line in own] == ["job.claimed", end]
        for line in own:
            assert (line["batch"], line["device"]) == (str(batch), "cpu:0")
            assert line["worker"]
    [failed] = [line for line in said if line["event"] == "job.failed"]
    assert failed["code"] == "prompt_too_long"
