"""What Prometheus is told by a worker whose device processes come and go."""

import os
import re
import signal
import urllib.request
from collections.abc import Callable

import pytest

from jobs.processes import Child
from jobs.states import State
from producer.client import Client
from producer.embedded.ports import LOOPBACK, free_ports
from tests.pipeline import eventually
from tests.worker.conftest import FEW_STEPS, picture

pytestmark = pytest.mark.slow

Figures = dict[str, float]


def scrape(port: int) -> Figures:
    with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/metrics", timeout=20) as answer:
        lines = answer.read().decode().splitlines()
    found = [re.fullmatch(r"(edict_\S+) (\S+)", line) for line in lines]
    return {each[1]: float(each[2]) for each in found if each}


def edits(client: Client, count: int, seed: int) -> list[str]:
    from jobs.specs import EditSpec

    source = client.sources.upload(picture(seed), "picture")
    shared = {"source": source, "model": client.model(), "sampler": FEW_STEPS}
    made = client.submit([EditSpec(**shared, edit_prompt=f"a dog {at}") for at in range(count)])
    return [each.job_id for each in made]


def ended(client: Client, job_ids: list[str]) -> bool:
    return {client.store.job(each).state for each in job_ids} == {State.SUCCEEDED}


def test_counts_outlive_a_device_process_and_its_moment_does_not(
    client: Client, start: Callable[..., Child]
):
    [port] = free_ports(1)
    start("control")
    start("worker", "--devices", "cpu,cpu", "--metrics-port", str(port))
    first = edits(client, 6, seed=1)
    eventually(lambda: ended(client, first))

    before = eventually(
        lambda: (
            found
            if (found := scrape(port)).get('edict_worker_jobs_total{outcome="succeeded"}') == 6
            else None
        )
    )
    assert before["edict_worker_claim_seconds_count"] == 6
    assert before['edict_worker_phase_seconds_count{phase="sample"}'] == 6
    made = before['edict_worker_inversions_total{how="made"}']
    assert made + before.get('edict_worker_inversions_total{how="reused"}', 0) == 6
    assert {f'edict_worker_rows_busy{{device="cpu:{at}"}}' for at in range(2)} <= set(before)
    assert before['edict_worker_memory_bytes{device="cpu:0"}'] > 50e6

    victim = next(
        each for each in client.store.live_workers(seen_within=60) if each.device == "cpu:0"
    )
    os.kill(victim.pid, signal.SIGKILL)
    eventually(lambda: 'edict_worker_rows_busy{device="cpu:0"}' not in scrape(port))

    assert scrape(port)['edict_worker_jobs_total{outcome="succeeded"}'] == 6
    second = edits(client, 4, seed=2)
    eventually(lambda: ended(client, second))
    eventually(lambda: scrape(port)['edict_worker_jobs_total{outcome="succeeded"}'] == 10)
