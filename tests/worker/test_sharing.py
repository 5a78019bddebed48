"""One inversion for all who need it, whoever they are."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobs.keys import inversion_key
from jobs.processes import Child
from jobs.specs import EditSpec
from jobs.states import State
from producer.client import Client
from tests.pipeline import eventually
from tests.worker.conftest import FEW_STEPS, Bench, picture


def key_of(bench: Bench, spec: EditSpec) -> str:
    return inversion_key(spec, bench.editor.model.revision)


def test_jobs_whose_image_is_inverted_elsewhere_go_back_untried_and_come_due_after_it(
    make_bench: Callable[..., Bench],
):
    here, elsewhere = make_bench("here"), make_bench("elsewhere")
    spec = here.edit()
    job_ids = here.queued(spec, here.edit("a cat"))
    [other] = elsewhere.store.claim(job_ids[1:], "elsewhere", lease=30)
    turn = elsewhere.keeper.turns.take(key_of(here, spec), other)

    here.runner.run(job_ids[:1])

    parked = here.store.job(job_ids[0])
    assert (parked.state, parked.attempts) == (State.PENDING, 0)
    assert not here.keeper.holds(other)
    assert here.store.take_due(10) == []
    elsewhere.keeper.turns.abandon(turn)
    assert [job.id for job in here.store.take_due(10)] == job_ids[:1]
    here.runner.run(job_ids[:1])
    assert here.store.job(job_ids[0]).state == State.SUCCEEDED


def test_workers_at_once_make_one_inversion_and_all_jobs_end(make_bench: Callable[..., Bench]):
    """Four workers, each with a shard of the same image."""
    crew = [make_bench(f"w{at}") for at in range(4)]
    job_ids = crew[0].queued(*(crew[0].edit(f"a dog {at}") for at in range(8)))
    made = []
    editor = crew[0].editor
    invert = editor.invert
    editor.invert = lambda *a, **o: (made.append(1), invert(*a, **o))[1]
    try:
        with ThreadPoolExecutor(4) as pool:
            while not all(crew[0].store.job(job_id).state == State.SUCCEEDED for job_id in job_ids):
                shards = [job_ids[at::4] for at in range(4)]
                list(pool.map(lambda pair: pair[0].runner.run(pair[1]), zip(crew, shards)))  # noqa: B905
                crew[0].store.take_due(100)
    finally:
        del editor.invert

    assert len(made) == 1
    jobs = [crew[0].store.job(job_id) for job_id in job_ids]
    assert {job.attempts for job in jobs} == {1}
    assert len({job.result.outputs["latents"].sha256 for job in jobs}) == 1


def test_an_object_that_was_lost_from_the_bucket_is_computed_again(bench: Bench):
    [first] = bench.run(bench.edit())
    bench.objects.delete(first.result.outputs["latents"].key)

    [second] = bench.run(bench.edit("a cat"))

    assert not second.result.inversion_reused
    assert second.result.outputs["latents"] == first.result.outputs["latents"]


def test_an_inversion_whose_job_failed_is_free_at_once(bench: Bench):
    [failed] = bench.run(bench.edit(source=bench.source(b"rubbish", "bad.png")))
    again = bench.edit("a cat", source=bench.source(b"rubbish", "bad.png"))

    [after] = bench.run(again)

    assert failed.error_code == after.error_code == "unreadable_image"


def test_an_inversion_that_killed_its_workers_fails_its_jobs_and_says_so(bench: Bench):
    spec = bench.edit()
    for _ in range(2):
        assert bench.store.claim_inversion(
            key_of(bench, spec), spec.inversion_digest(), "dead", lease=-1, alone=True
        )

    [job] = bench.run(spec)

    assert (job.state, job.error_code) == (State.FAILED, "worker_lost")
    assert "retry the job" in job.error_message


@pytest.mark.slow
def test_a_hundred_edits_at_once_on_several_worker_processes_make_one_inversion(
    client: Client, start: Callable[..., Child], tmp_path: Path
):
    source = client.sources.upload(picture(), "picture")
    shared = {"source": source, "model": client.model(), "sampler": FEW_STEPS}
    # One message at a time each: no process can take them all.
    start("worker", "--devices", "cpu,cpu", EDICT_WORKER_SHARDS="1")
    eventually(lambda: len(client.store.live_workers(seen_within=10)) == 2)

    # All at once for everybody who is ready.
    jobs = client.submit([EditSpec(**shared, edit_prompt=f"a dog {at}") for at in range(100)])
    start("control")

    eventually(
        lambda: {client.store.job(each.job_id).state for each in jobs} == {State.SUCCEEDED},
        seconds=480,
    )

    lines = (tmp_path / "worker.log").read_text().splitlines()
    said = [json.loads(line) for line in lines if line.startswith("{")]
    assert [each["event"] for each in said].count("inversion.made") == 1
    ends = [each for each in said if each["event"] == "job.succeeded"]
    assert {each["job"] for each in ends} == {str(each.job_id) for each in jobs}
    assert {each["device"] for each in ends} == {"cpu:0", "cpu:1"}
    rows = [client.store.job(each.job_id) for each in jobs]
    assert {row.attempts for row in rows} == {1}
    assert len({row.worker for row in rows}) > 1
    assert len({row.result.outputs["latents"].sha256 for row in rows}) == 1
