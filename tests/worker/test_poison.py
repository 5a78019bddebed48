"""A job that kills its worker, and those that happen to be beside it."""

import os
import signal
from collections.abc import Callable
from threading import Event, Lock, Thread

import pytest

from jobs.processes import Child
from jobs.states import State
from producer.client import Client
from tests.pipeline import eventually
from tests.worker.conftest import FEW_STEPS, Bench
from tests.worker.processes import LONG, submit, succeeded

SOME_STEPS = LONG.model_copy(update={"steps": 20})
"""Long enough to be met while it runs."""


def test_a_suspect_runs_with_nothing_beside_it(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    suspect, *others = bench.queued(bench.edit(), *(bench.edit(p) for p in ("a", "b", "c")))
    bench.store.claim([suspect], "dead", lease=-1)
    bench.store.expire_leases()
    bench.store.take_due(10)
    lock, running = Lock(), set[object]()
    beside: dict[object, set[object]] = {}
    run_image = bench.runner._run_image

    def watched(claims):
        jobs = {claim.job_id for claim in claims}
        with lock:
            running.update(jobs)
            for job in running:
                beside.setdefault(job, set()).update(running)
        run_image(claims)
        with lock:
            running.difference_update(jobs)

    monkeypatch.setattr(bench.runner, "_run_image", watched)
    threads = [Thread(target=bench.runner.run, args=([job_id],)) for job_id in (*others, suspect)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert bench.store.job(suspect).state == State.SUCCEEDED
    assert beside[suspect] == {suspect}


@pytest.mark.slow
def test_a_job_that_kills_its_worker_three_times_fails_and_its_neighbours_succeed(
    client: Client, start: Callable[..., Child]
):
    store = client.store
    poison = submit(client)
    neighbours = [submit(client, seed, FEW_STEPS) for seed in (1, 2, 3)]
    neighbours += [submit(client, 4, SOME_STEPS)]
    killed, done = [], Event()

    def kill() -> None:
        """What the poison does, from without: its worker dies while it runs."""
        while not done.wait(0.02):
            job = store.job(poison)
            pids = {each.name: each.pid for each in store.live_workers(seen_within=60)}
            fresh = job.state == State.RUNNING and job.worker in pids and job.worker not in killed
            # Not before the others are in hand too.
            if fresh and (killed or store.job(neighbours[-1]).state == State.RUNNING):
                killed.append(job.worker)
                os.kill(pids[job.worker], signal.SIGKILL)

    killer = Thread(target=kill)
    killer.start()
    try:
        start("control")
        start("worker", "--devices", "cpu")
        failed = eventually(lambda: (j := store.job(poison)).state == State.FAILED and j)
        for neighbour in neighbours:
            eventually(lambda: succeeded(store, neighbour))  # noqa: B023
    finally:
        done.set()
        killer.join()

    assert (failed.error_code, len(killed)) == ("worker_lost", 3)
    # The first death took them along; nothing of it counts against them.
    assert store.job(neighbours[-1]).attempts == 2
