"""Images that come together, and those that come alone."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from jobs.lanes import INTERACTIVE_PRIORITY
from jobs.states import State
from tests.worker.conftest import Bench, picture
from worker.gathering import Gathering


def test_nobody_waits_for_others_while_the_device_works():
    begun = time.monotonic()

    Gathering(lambda: False, quiet=60, longest=60).wait()

    assert time.monotonic() - begun < 30


def test_those_who_come_one_after_the_other_go_on_together():
    gathering, ended = Gathering(lambda: True, quiet=1.0, longest=60), []

    def come() -> None:
        gathering.wait()
        ended.append(time.monotonic())

    threads = [threading.Thread(target=come) for _ in range(3)]
    for thread in threads:
        thread.start()
        time.sleep(0.1)
    last_came = time.monotonic()
    for thread in threads:
        thread.join()

    assert min(ended) >= last_came


def test_nobody_waits_for_ever_for_others_that_may_come():
    gathering, begun = Gathering(lambda: True, quiet=60, longest=0.1), time.monotonic()

    gathering.wait()

    assert 0.1 <= time.monotonic() - begun < 30


def test_images_that_come_to_an_idle_device_share_one_batch(bench: Bench):
    """The engine of these tests has batches of 2 and 8 rows; two images take 4."""
    engine = bench.editor.engine
    bench.runner._finder._gathering = Gathering(lambda: engine.idle, quiet=1.0, longest=60)
    specs = [
        bench.inversion(source=bench.source(picture(seed), f"{seed}.png")) for seed in range(2)
    ]
    job_ids = bench.queued(*specs)

    with ThreadPoolExecutor(2) as shards:
        list(shards.map(lambda job_id: bench.runner.run([job_id]), job_ids))

    jobs = [bench.store.job(job_id) for job_id in job_ids]
    assert [job.state for job in jobs] == [State.SUCCEEDED] * 2
    assert all("rows=8" in job.result.fingerprint for job in jobs)


def test_an_interactive_job_waits_for_nobody(bench: Bench):
    engine = bench.editor.engine
    bench.runner._finder._gathering = Gathering(lambda: engine.idle, quiet=300, longest=300)
    [submitted] = bench.store.submit([bench.edit()], priority=INTERACTIVE_PRIORITY)
    bench.store.take_due(1)

    bench.runner.run([submitted.job_id])

    assert bench.store.job(submitted.job_id).state == State.SUCCEEDED
