"""The device computes while images come and go."""

from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from jobs.objects import ObjectStore
from jobs.settings import Settings
from jobs.states import State
from tests.faults.proxy import FaultProxy
from tests.pipeline import eventually
from tests.worker.conftest import Bench, picture


class Network:
    """Between the worker and its bucket: of the requests that begin with `hold`, the first waits.

    (And whatever repeats it.)
    """

    port: int

    def __init__(self) -> None:
        self.hold: bytes | None = None
        self.waiting: bytes | None = None

    def holds(self, data: bytes) -> bool:
        if self.hold is None or not data.startswith(self.hold):
            return False
        request = data.partition(b"\r\n")[0]
        self.waiting = self.waiting or request
        return request == self.waiting


@pytest.fixture
def network(settings: Settings):
    made = Network()
    endpoint = urlsplit(settings.s3_endpoint_url)
    options = {"host": endpoint.hostname, "delay": 0.02, "hold": made.holds}
    with FaultProxy(endpoint.port, **options) as proxy:
        made.port = proxy.port
        yield made


@pytest.fixture
def objects(settings: Settings, network: Network) -> ObjectStore:
    slow = f"http://127.0.0.1:{network.port}"
    return ObjectStore.from_settings(settings.model_copy(update={"s3_endpoint_url": slow}))


@pytest.mark.parametrize("request_", ["GET sources/", "PUT inversions/", "PUT results/"])
def test_the_device_goes_on_with_other_images_while_one_is_on_its_way(
    bench: Bench, network: Network, request_: str
):
    job_ids = bench.queued(
        *(
            bench.reconstruction(source=bench.source(picture(seed), f"{seed}.png"))
            for seed in range(3)
        )
    )
    method, prefix = request_.split()
    network.hold = f"{method} /{bench.objects.bucket}/{prefix}".encode()

    def succeeded() -> int:
        return sum(bench.store.job(job_id).state == State.SUCCEEDED for job_id in job_ids)

    with ThreadPoolExecutor(3) as shards:
        running = [shards.submit(bench.runner.run, [job_id]) for job_id in job_ids]
        try:
            eventually(lambda: succeeded() == 2)
            assert network.waiting is not None
        finally:
            network.hold = None
        for each in running:
            each.result()


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
            assert network.waiting is not None
            # And no row says so before everything is in the bucket.
            assert {bench.store.job(each).state for each in job_ids} == {State.RUNNING}
        finally:
            network.hold = None
        running.result()

    assert {bench.store.job(each).state for each in job_ids} == {State.SUCCEEDED}
