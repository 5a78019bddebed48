"""Results that carry their recipe, and made again from it: a real store, bucket and model."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pytest
from PIL import Image
from sqlalchemy import select

from edict_engine.errors import EngineError
from jobs.errors import InvalidInput
from jobs.records import Job, Worker
from jobs.result_files import Recipe, encode, read_recipe
from jobs.settings import Settings
from jobs.specs import OutputOptions
from jobs.store.base import utc_now
from jobs.tables import jobs
from producer.client import Client
from producer.reproduce import NotRepeated, compare, reproduce
from tests.worker.conftest import Bench, picture
from worker.perform import Performer


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings) as client:
        yield client


def image(bench: Bench, job) -> bytes:
    return bench.objects.get(job.result.outputs["image"].key)


@contextmanager
def working(bench: Bench, revision: str | None = None) -> Iterator[None]:
    """The bench as a worker that serves the queue until the end."""
    model, stop = bench.editor.model, threading.Event()
    now = utc_now()
    worker = Worker("w", "h", 1, "cpu:0", model.name, revision or model.revision, now, now)
    bench.store.register_worker(worker)

    def serve() -> None:
        while not stop.wait(0.05):
            bench.store.heartbeat(worker.name, {}, lease=30)
            with bench.store._engine.connect() as connection:
                queued = list(connection.scalars(select(jobs.c.id).where(jobs.c.state == "queued")))
            bench.runner.run(queued)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_result_and_its_sidecar_tell_how_it_was_made(bench: Bench, kind: str):
    spec = bench.edit("a cat", base_prompt="a dog", output=OutputOptions(format=kind))
    [job] = bench.run(spec)

    recipe = read_recipe(image(bench, job), "a file")
    assert recipe.spec == spec
    assert recipe.model_revision == bench.editor.model.revision
    assert recipe.fingerprint == job.result.generation_fingerprint
    assert f"rows={recipe.rows};" in recipe.fingerprint
    assert recipe.latents_sha256 == job.result.outputs["latents"].sha256
    outputs = job.result.outputs
    assert outputs["sidecar"].key == outputs["image"].key.rpartition(".")[0] + ".json"
    beside = json.loads(bench.objects.get(outputs["sidecar"].key))
    assert beside["image"]["sha256"] == outputs["image"].sha256
    assert beside["spec"]["edit_prompt"] == "a cat"
    assert beside["digital_source_type"].endswith("compositeWithTrainedAlgorithmicMedia")


def test_a_reconstructions_file_says_that_it_is_exact(bench: Bench):
    [job] = bench.run(bench.reconstruction())

    recipe = read_recipe(image(bench, job), "a file")
    assert (recipe.exact, recipe.max_error) == (True, 0)
    assert recipe.psnr == job.result.psnr


def made_beside_others(bench: Bench) -> Job:
    """An edit that ran at eight rows; alone it would run at two."""
    # On a busy machine the others may come when one has gone already.
    for attempt in count():
        prompts = (f"a {animal} {attempt}" for animal in ("cat", "dog", "hat"))
        for job in bench.run(*map(bench.edit, prompts)):
            if "rows=8;" in job.result.generation_fingerprint:
                return job
    raise AssertionError


def test_an_edit_made_beside_others_comes_again_bit_for_bit_alone(bench: Bench, client: Client):
    first = made_beside_others(bench)
    data = image(bench, first)
    recipe = read_recipe(data, "a file")

    with working(bench):
        verdict = reproduce(client, recipe, data)

    assert verdict.same_pixels
    assert verdict.same_bytes
    assert str(verdict) == "the same bytes"
    assert verdict.job != str(first.id)


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_reconstruction_comes_again_in_any_format(bench: Bench, client: Client, kind: str):
    [job] = bench.run(bench.reconstruction(output=OutputOptions(format=kind)))
    data = image(bench, job)

    with working(bench):
        assert reproduce(client, read_recipe(data, "a file"), data).same_bytes


def test_an_edit_that_keeps_pixels_comes_again_bit_for_bit(bench: Bench, client: Client):
    [job] = bench.run(bench.edit("a cat", mask="auto", keep_pixels=True))
    data = image(bench, job)

    with working(bench):
        verdict = reproduce(client, read_recipe(data, "a file"), data)

    assert str(verdict) == "the same bytes"


def test_an_edit_runs_at_the_rows_that_it_names(bench: Bench):
    two, eight = bench.run(bench.edit("a cat", rows=2), bench.edit("a cat", rows=8))

    assert "rows=2;" in two.result.generation_fingerprint
    assert "rows=8;" in eight.result.generation_fingerprint


def test_other_pixels_are_measured_and_told(bench: Bench, client: Client):
    [job] = bench.run(bench.edit())
    recipe = read_recipe(image(bench, job), "a file")
    other = encode(Image.new("RGB", (64, 64), "teal"), recipe, OutputOptions())
    elsewhere = recipe.model_copy(update={"fingerprint": "cuda:sm_90x132;rows=8"})

    with working(bench):
        here = reproduce(client, recipe, other)
        there = reproduce(client, elsewhere, other)

    assert not here.same_pixels
    assert here.same_noise
    assert "though device, versions, batch shape and noise are the same" in str(here)
    assert there.psnr == here.psnr
    assert "as expected on other hardware or versions: then cuda:sm_90x132;rows=8" in str(there)


def recipe_of(bench: Bench) -> tuple[Recipe, bytes]:
    [job] = bench.run(bench.edit())
    data = image(bench, job)
    return read_recipe(data, "a file"), data


def test_a_source_that_is_gone_is_told_and_may_be_given(
    bench: Bench, client: Client, tmp_path, s3_client
):
    recipe, data = recipe_of(bench)
    bench.objects.delete("sources/image.png")

    with pytest.raises(InvalidInput, match=r"image\.png is gone; give the original with --source"):
        reproduce(client, recipe, data)

    (tmp_path / "other.png").write_bytes(picture(1))
    with pytest.raises(InvalidInput, match="the result was made from"):
        reproduce(client, recipe, data, source=str(tmp_path / "other.png"))

    (tmp_path / "it.png").write_bytes(picture())
    with working(bench):
        verdict = reproduce(client, recipe, data, source=str(tmp_path / "it.png"))
    assert verdict.same_pixels

    s3_client.put_object(Bucket=bench.objects.bucket, Key="sources/image.png", Body=b"other")
    with pytest.raises(InvalidInput, match="is another image now"):
        reproduce(client, recipe, data)


def test_without_a_worker_of_that_revision_nothing_is_submitted(bench: Bench, client: Client):
    recipe, data = recipe_of(bench)
    before = sum(bench.store.counts().values())

    with pytest.raises(NotRepeated, match="no worker is alive for"):
        reproduce(client, recipe, data)
    with (
        working(bench, "another"),
        pytest.raises(NotRepeated, match=r"at revision .+ and the workers serve another"),
    ):
        reproduce(client, recipe, data)

    assert sum(bench.store.counts().values()) == before


def test_a_repetition_that_fails_says_why(bench: Bench, client: Client, monkeypatch):
    recipe, data = recipe_of(bench)

    def fail(*_: object) -> None:
        raise EngineError("no luck today")

    monkeypatch.setattr(Performer, "_edit", fail)
    with working(bench), pytest.raises(NotRepeated, match=r"has failed \(engine_error: no luck"):
        reproduce(client, recipe, data)


def test_pictures_are_compared_by_their_pixels():
    assert compare(picture(0), picture(0)) is None
    assert 5 < compare(picture(0), picture(1)) < 10
