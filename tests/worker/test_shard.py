"""What becomes of the jobs of a shard, with a real store, bucket and model."""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from PIL import Image
from sqlalchemy import event

from edict_engine.editor import Editor
from edict_engine.images import load_image, to_image, to_pixels
from jobs.errors import ServiceUnavailable
from jobs.keys import sha256
from jobs.objects import ObjectStore
from jobs.specs import ModelRef, Source
from jobs.states import State
from tests.pipeline import eventually
from tests.worker.conftest import FEW_STEPS, Bench, picture


def image_of(bench: Bench, job) -> Image.Image:
    return Image.open(io.BytesIO(bench.objects.get(job.result.outputs["image"].key)))


def vae_round_trip(editor: Editor, data: bytes) -> Image.Image:
    size, multiple = editor.model.default_size, editor.model.pixel_factor
    pixels = to_pixels(load_image(data, size=size, multiple=multiple))
    latent = editor.engine.run(lambda: editor.model.encode(pixels)).result()
    return to_image(editor.engine.run(lambda: editor.model.decode(latent).cpu()).result())


def test_a_reconstruction_is_exact_and_equals_the_vaes_own_round_trip(bench: Bench):
    [job] = bench.run(bench.reconstruction())

    assert job.state == State.SUCCEEDED
    assert job.result.exact
    assert job.result.max_error == 0
    expected = vae_round_trip(bench.editor, picture())
    assert image_of(bench, job).tobytes() == expected.tobytes()


def test_edits_of_one_image_share_its_inversion_and_differ_from_its_reconstruction(bench: Bench):
    jobs = bench.run(bench.reconstruction(), bench.edit("a dog"), bench.edit("a cat"))

    assert [job.state for job in jobs] == [State.SUCCEEDED] * 3
    assert len({job.result.outputs["latents"].key for job in jobs}) == 1
    assert len({image_of(bench, job).tobytes() for job in jobs}) == 3


@pytest.mark.parametrize("sampler", ["edict", "bdia", "o-belm", "ddim", "sdedit"])
def test_every_sampler_runs_as_a_job_and_says_whether_it_was_exact(bench: Bench, sampler: str):
    options = FEW_STEPS.model_copy(update={"name": sampler})
    job_ids = bench.queued(
        *(
            spec.model_copy(update={"sampler": options})
            for spec in (bench.reconstruction(), bench.edit("a cat"))
        )
    )
    bench.runner.run(job_ids)

    back, edited = (bench.store.job(job_id) for job_id in job_ids)
    assert edited.state == back.state == State.SUCCEEDED
    assert back.result.exact == (back.result.max_error == 0)
    assert back.result.exact or sampler in ("o-belm", "ddim", "sdedit")


def test_an_edit_under_attention_control_is_another_edit(bench: Bench):
    jobs = bench.run(bench.edit("a cat"), bench.edit("a cat", attention_control=True))

    assert [job.state for job in jobs] == [State.SUCCEEDED] * 2
    assert len({image_of(bench, job).tobytes() for job in jobs}) == 2


def test_an_inversion_made_before_is_found_again(bench: Bench):
    [inversion] = bench.run(bench.inversion())
    [edit] = bench.run(bench.edit())

    assert not inversion.result.inversion_reused
    assert edit.result.inversion_reused
    assert edit.result.outputs["latents"] == inversion.result.outputs["latents"]


def test_a_damaged_stored_inversion_is_made_anew(bench: Bench, s3_client):
    [first] = bench.run(bench.inversion())
    key = first.result.outputs["latents"].key
    s3_client.put_object(Bucket=bench.objects.bucket, Key=key, Body=b"damaged")

    [edit] = bench.run(bench.edit())

    assert edit.state == State.SUCCEEDED
    assert not edit.result.inversion_reused
    assert_stored(bench, edit)


def assert_stored(bench: Bench, job) -> None:
    """The bucket holds what the row says that it holds."""
    for output in job.result.outputs.values():
        data = bench.objects.get(output.key)
        assert (sha256(data), len(data)) == (output.sha256, output.size)


def test_where_two_workers_inverted_one_image_the_rows_speak_of_what_is_stored(bench: Bench):
    """A second worker at another batch shape makes other bits under the same key."""
    [first] = bench.run(bench.inversion())
    key = first.result.outputs["latents"].key
    stored = bench.objects.get(key)
    finder = bench.runner._finder
    # It looked before the first had stored its own.
    look, answers = finder._stored, iter([None])
    finder._stored = lambda key: next(answers) if answers.__length_hint__() else look(key)

    [edit] = bench.run(bench.edit())

    assert bench.objects.get(key) == stored
    assert edit.result.fingerprint == first.result.fingerprint
    assert_stored(bench, edit)


@pytest.mark.parametrize(
    ("fields", "code", "remedy"),
    [
        ({"model": ModelRef(name="another")}, "wrong_model", "start a worker for it"),
        ({"base_prompt": "a very long prompt " * 20}, "prompt_too_long", "shorten"),
    ],
)
def test_what_the_worker_cannot_serve_fails_at_once_and_says_what_to_do(
    bench: Bench, fields, code, remedy
):
    [job] = bench.run(bench.edit(**fields))

    assert (job.state, job.error_code) == (State.FAILED, code)
    assert remedy in job.error_message
    assert job.attempts == 1


def test_a_source_that_changed_since_submission_fails_for_good(bench: Bench, s3_client):
    spec = bench.edit()
    bucket, key = bench.objects.locate(spec.source.uri)
    s3_client.put_object(Bucket=bucket, Key=key, Body=picture(seed=1))

    [job] = bench.run(spec)

    assert (job.state, job.error_code) == (State.FAILED, "source_changed")


def test_a_source_that_vanished_fails_for_good(bench: Bench):
    gone = Source(uri=bench.objects.uri("sources/gone.png"), sha256="0" * 64)

    [job] = bench.run(bench.edit(source=gone))

    assert (job.state, job.error_code) == (State.FAILED, "source_refused")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"not an image at all", "unreadable_image"),
        (picture()[:2000], "unreadable_image"),
    ],
    ids=["not an image", "truncated"],
)
def test_a_bad_image_fails_and_its_neighbours_succeed(bench: Bench, data: bytes, code: str):
    bad = bench.edit(source=bench.source(data, "bad.png"))

    spoilt, good = bench.run(bad, bench.edit())

    assert (spoilt.state, spoilt.error_code) == (State.FAILED, code)
    assert good.state == State.SUCCEEDED


def test_one_bad_edit_of_an_image_leaves_the_others_alone(bench: Bench):
    good, bad = bench.run(bench.edit("a dog"), bench.edit("a dog " * 100))

    assert good.state == State.SUCCEEDED
    assert (bad.state, bad.error_code) == (State.FAILED, "prompt_too_long")


def test_an_edit_that_diverges_fails_with_its_place_and_its_neighbours_succeed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    # Given a network that has no number to say to one of the prompts, from timestep 250 on
    model = bench.editor.model
    sick, predict = model.embed("poison").hidden, model._family.predict

    def poisoned(sample, timesteps, contexts, attention):
        noise = predict(sample, timesteps, contexts, attention)
        told = (contexts.hidden == sick).flatten(1).all(1)
        return noise.masked_fill((told & (timesteps >= 250))[:, None, None, None], torch.nan)

    monkeypatch.setattr(model._family, "predict", poisoned)

    # When it is asked beside another prompt, at the timesteps 250 and 0
    good, bad, back = bench.run(bench.edit(), bench.edit("poison"), bench.reconstruction())

    assert (good.state, back.state) == (State.SUCCEEDED, State.SUCCEEDED)
    assert back.result.exact
    assert (bad.state, bad.error_code) == (State.FAILED, "diverged")
    assert "at step 0 (timestep 250)" in bad.error_message


def test_jobs_that_sql_does_not_call_due_are_not_run(bench: Bench):
    [done] = bench.run(bench.inversion())
    [pending] = bench.store.submit([bench.edit()])

    bench.runner.run([done.id, pending.job_id])

    assert bench.store.job(done.id).attempts == 1
    assert bench.store.job(pending.job_id).state == State.PENDING


def test_an_outage_of_the_storage_postpones_the_job(bench: Bench, monkeypatch):
    job_ids = bench.queued(bench.inversion())

    def unavailable(*_: object, **__: object) -> None:
        raise ServiceUnavailable("S3 does not answer")

    monkeypatch.setattr(ObjectStore, "read", unavailable)
    bench.runner.run(job_ids)

    job = bench.store.job(job_ids[0])
    assert (job.state, job.error_code) == (State.PENDING, "service_unavailable")


def test_a_late_finisher_changes_nothing(make_bench: Callable[..., Bench]):
    late, other = make_bench("late"), make_bench("other")
    job_ids = late.queued(late.edit())
    [stale] = late.keeper.claim(job_ids)
    # Everybody believes that the first worker is dead: its lease is taken away.
    with late.store._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE jobs SET lease_until = '2000-01-01 00:00:00'")
    assert late.store.expire_leases() == 1
    late.store.take_due(10)
    other.runner.run(job_ids)
    finished = late.store.job(job_ids[0])

    noise = late.runner._finder.find(stale, late.runner._watch([stale], "inverting", 0, 1))
    late.runner._run_job(stale, noise)

    assert late.store.job(job_ids[0]) == finished
    assert finished.worker == "other"
    assert finished.attempts == 2


def test_a_stopping_worker_gives_its_jobs_back_untried(bench: Bench):
    job_ids = bench.queued(bench.edit(), bench.edit("a cat"))
    bench.keeper.stop_work()

    bench.runner.run(job_ids)

    jobs = [bench.store.job(job_id) for job_id in job_ids]
    assert [(job.state, job.attempts) for job in jobs] == [(State.PENDING, 0)] * 2


def test_a_cancelled_job_stops_and_stays_cancelled(bench: Bench):
    job_ids = bench.queued(bench.edit(), bench.edit("a cat"))
    keeper = bench.keeper

    # The first statement after the claim comes from the heartbeat; cancel just before it.
    claims = keeper.claim(job_ids)
    bench.store.cancel([claims[0].job_id])
    keeper.beat()

    assert not keeper.holds(claims[0])
    assert keeper.holds(claims[1])
    bench.runner._run_image(claims)
    states = [bench.store.job(claim.job_id).state for claim in claims]
    assert states == [State.CANCELLED, State.SUCCEEDED]


def test_nothing_is_visible_as_a_result_before_the_row_says_so(bench: Bench):
    """The upload comes first; the row that names it is written after."""
    written: list[str] = []
    put = bench.objects.put

    def watch(statement: str) -> None:
        if statement.startswith("UPDATE jobs") and "result=" in statement:
            written.append("row")

    engine = bench.store._engine
    event.listen(engine, "before_cursor_execute", lambda *a: watch(a[2]))
    bench.objects.put = lambda key, *a: (put(key, *a), written.append(key.partition("/")[0]))[0]

    bench.run(bench.edit())

    assert written[0] == "sources"
    # Latents go up beside the image, its sidecar and its thumbnail.
    assert sorted(written[1:5]) == ["inversions", "results", "results", "results"]
    assert written[5:] == ["row"]


def test_a_job_that_is_cancelled_while_it_runs_frees_its_lane_before_the_next_heartbeat(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    """No heartbeat comes at all; the lane is free at the engine's next turn."""
    monkeypatch.setattr("worker.leases.HEARTBEAT_SECONDS", 3_600)
    endless = FEW_STEPS.model_copy(update={"steps": 1_000, "strength": 1.0, "mix": 1.0})
    spec = bench.inversion().model_copy(update={"sampler": endless})
    [job_id] = bench.queued(spec)
    lanes = bench.editor.engine._lanes

    with bench.keeper, ThreadPoolExecutor(1) as shards:
        running = shards.submit(bench.runner.run, [job_id])
        eventually(lambda: not lanes.idle)
        bench.store.cancel([job_id])
        eventually(lambda: lanes.idle, seconds=30)
        running.result()

    job = bench.store.job(job_id)
    assert job.state == State.CANCELLED
    assert job.progress < 0.9


def test_more_rows_than_a_batch_of_this_worker_has_are_refused(bench: Bench):
    most = bench.editor.engine.rungs[-1]
    wide = bench.edit("a cat").model_copy(update={"rows": most + 1})

    bad, good = bench.run(wide, bench.edit("a cat"))

    assert (bad.state, bad.error_code) == (State.FAILED, "bad_parameter")
    assert f"rows {most + 1}: a batch of this worker has {most} at most" in bad.error_message
    assert good.state == State.SUCCEEDED
