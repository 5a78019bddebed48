"""A device that breaks under its process."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from edict_engine.errors import OutOfMemory
from jobs.processes import Child
from jobs.settings import Settings
from jobs.states import State
from producer.client import Client
from tests.pipeline import environment_of
from tests.worker.conftest import TINY_MODEL, Bench
from tests.worker.processes import submit
from worker.failures import DEVICE_LOST, classify
from worker.health import DeviceHealth

LOST = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
SHORT = OutOfMemory(2, (4, 8, 8), pinned=False)


@pytest.mark.parametrize(
    "error", [LOST, RuntimeError("CUDA error: device-side assert triggered")], ids=["new", "old"]
)
def test_a_lost_context_is_of_the_class_device(error: Exception):
    failure = classify(error)

    assert (failure.code, failure.permanent, failure.device) == (DEVICE_LOST, False, True)


def test_a_process_gives_up_once_at_a_lost_context():
    reasons: list[str] = []
    health = DeviceHealth(reasons.append)

    health.failed(classify(ZeroDivisionError("a fault of ours")))
    assert reasons == []
    for _ in range(2):
        health.failed(classify(LOST))

    assert reasons == [str(LOST)]


def test_a_process_gives_up_when_memory_stays_short():
    reasons: list[str] = []
    health = DeviceHealth(reasons.append)

    for _ in range(2):
        health.failed(classify(SHORT))
    health.succeeded()
    for _ in range(2):
        health.failed(classify(SHORT))
    assert reasons == []
    health.failed(classify(SHORT))

    assert len(reasons) == 1


def test_jobs_on_a_lost_device_have_spent_no_attempt(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise LOST

    monkeypatch.setattr(bench.editor.engine._lanes, "_denoise", broken)
    job_ids = bench.queued(bench.edit(), bench.edit("a cat"))

    bench.runner.run(job_ids)

    assert [bench.store.job(job_id).state for job_id in job_ids] == [State.PENDING] * 2
    bench.store.take_due(10)
    assert bench.store.suspects(job_ids) == job_ids
    assert bench.given_up == [str(LOST)]


BREAKING = """
import sys, torch, worker.process
from edict_engine.model import Model
from worker.__main__ import main
def broken(*_):
    raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
load = worker.process._load
def load_and_break(*arguments):
    model = load(*arguments)
    object.__setattr__(model, "denoise", broken)
    return model
worker.process._load = load_and_break
worker.process.probe_rungs = lambda *_: (2, 8)
sys.exit(main())
"""


@pytest.mark.slow
def test_a_process_whose_device_is_lost_ends_for_the_supervisor_to_start_another(
    client: Client, settings: Settings, start: Callable[..., Child], tmp_path: Path
):
    start("control")
    job_id = submit(client)
    command = [sys.executable, "-c", BREAKING, "--device", "cuda:0", "--torch-device", "cpu"]
    child = Child(
        "breaking",
        [*command, "--model", TINY_MODEL],
        environment=os.environ | environment_of(settings),
        log=tmp_path / "breaking.log",
    )

    with child:
        status = child.wait(90)

    assert status == os.EX_TEMPFAIL, child.log_tail()
    assert "device.lost" in child.log_tail()
    job = client.store.job(job_id)
    assert job.state in (State.PENDING, State.QUEUED)
    assert job.error_code == DEVICE_LOST
    assert client.store.live_workers(seen_within=60) == []
