"""The device computes while images come and go."""

from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from jobs.objects import ObjectStore
from jobs.settings import Settings
from jobs.states import State
from tests.pipeline import eventually
from tests.slow_proxy import SlowProxy
from tests.worker.conftest import Bench, picture

SHARDS = 8
"""In hand at once, as `worker_shards` has it."""


class Network:
    """Between the worker and its bucket: `hold` what begins so."""

    hold: bytes | None = None
    proxy: SlowProxy

    def holds(self, data: bytes) -> bool:
        return self.hold is not None and data.startswith(self.hold)


@pytest.fixture
def network(settings: Settings):
    made = Network()
    endpoint = urlsplit(settings.s3_endpoint_url)
    with SlowProxy((endpoint.hostname, endpoint.port), delay=0.1, hold=made.holds) as made.proxy:
        yield made


@pytest.fixture
def objects(settings: Settings, network: Network) -> ObjectStore:
    slow = f"http://127.0.0.1:{network.proxy.port}"
    return ObjectStore.from_settings(settings.model_copy(update={"s3_endpoint_url": slow}))


def test_most_turns_of_the_device_are_taken_while_the_network_is_busy(
    bench: Bench, network: Network, monkeypatch: pytest.MonkeyPatch
):
    lanes = bench.editor.engine._lanes
    denoise, busy = lanes._denoise, []

    def counting(*arguments):
        busy.append(network.proxy.held > 0)
        return denoise(*arguments)

    monkeypatch.setattr(lanes, "_denoise", counting)
    job_ids = bench.queued(
        *(
            bench.reconstruction(source=bench.source(picture(seed), f"{seed}.png"))
            for seed in range(16)
        )
    )

    with ThreadPoolExecutor(SHARDS) as shards:
        list(shards.map(lambda job_id: bench.runner.run([job_id]), job_ids))

    assert {bench.store.job(job_id).state for job_id in job_ids} == {State.SUCCEEDED}
    assert len(busy) > 16
    assert sum(busy) / len(busy) > 0.75


def test_edits_do_not_wait_for_the_upload_of_their_inversion(bench: Bench, network: Network):
    bucket = bench.objects.bucket
    job_ids = bench.queued(bench.edit(), bench.edit("a cat"))
    network.hold = f"PUT /{bucket}/inversions/".encode()

    with ThreadPoolExecutor(1) as shards:
        running = shards.submit(bench.runner.run, job_ids)
        try:
            eventually(lambda: len(bench.keeper._held) == 2)
            # All that the device has to do for them is done.
            eventually(
                lambda: all(held.progress == 1 for held in bench.keeper._held.values()), seconds=60
            )
            assert len(bench.keeper._held) == 2
            assert network.proxy.held > 0
            # And no row says so before everything is in the bucket.
            assert {bench.store.job(each).state for each in job_ids} == {State.RUNNING}
        finally:
            network.hold = None
        running.result()

    assert {bench.store.job(each).state for each in job_ids} == {State.SUCCEEDED}
