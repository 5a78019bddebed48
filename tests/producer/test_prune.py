"""Pruning with a real bucket: nothing dangles, whenever it is interrupted."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from sqlalchemy import update

from jobs.keys import result_key, sha256
from jobs.results import Output, Result
from jobs.retention import What
from jobs.specs import EditSpec, InversionSpec, ModelRef, Source, Spec
from jobs.tables import jobs
from producer.client import Client
from producer.retention import Pruned, Pruner, plan
from tests.pipeline import environment_of, eventually
from tests.producer.conftest import Edict, Finish, png

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ROOT = Path(__file__).parents[2]
NOISE = "inversions/aa/bb/noise.safetensors"


@pytest.fixture
def service_database(database_url: str) -> str:
    """Every kind."""
    return database_url


def edit(image: Source, prompt: str) -> EditSpec:
    return EditSpec(source=image, model=ModelRef(name="demo"), edit_prompt=prompt)


def finished(client: Client, spec: Spec, *, days_ago: float, latents: str = NOISE) -> UUID:
    """A job that succeeded in the past; its outputs are in the bucket."""
    [made] = client.submit([spec])
    [claim] = client.store.claim([made.job_id], "test", lease=30)
    end(client, claim.job_id, spec, latents=latents)
    age(client, made.job_id, days_ago)
    return made.job_id


def many_finished(client: Client, image: Source, count: int) -> list[UUID]:
    """Edits that succeeded nine days ago."""
    specs = [edit(image, f"{number}") for number in range(count)]
    job_ids = [each.job_id for each in client.store.submit(specs)]
    for job_id, spec in zip(job_ids, specs, strict=True):
        end(client, job_id, spec)
    then = datetime.now(UTC) - timedelta(days=9)
    with client.store._engine.begin() as connection:
        connection.execute(update(jobs).values(finished_at=then))
    return job_ids


def end(client: Client, job_id: UUID, spec: Spec, *, latents: str = NOISE) -> None:
    keys = {"latents": latents}
    if spec.kind != "inversion":
        keys["image"] = result_key(job_id, str(job_id).encode(), "png")
    outputs = {
        role: Output(key=key, sha256=sha256(key.encode()), size=len(key))
        for role, key in keys.items()
    }
    for key in keys.values():
        client.objects.put(key, key.encode(), "image/png")
    result = Result(outputs=outputs, model_revision="r", fingerprint="f")
    with client.store._engine.begin() as connection:
        connection.execute(
            update(jobs)
            .where(jobs.c.id == job_id)
            .values(state="succeeded", finished_at=datetime.now(UTC), lease_until=None,
                    result=result.model_dump(mode="json"))
        )  # fmt: skip


def age(client: Client, job_id: UUID, days: float) -> None:
    then = datetime.now(UTC) - timedelta(days=days)
    with client.store._engine.begin() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(finished_at=then))


def prune(client: Client, *, source_rest: float = 0.0) -> Pruned:
    rest = timedelta(seconds=source_rest)
    return Pruner(client.store, client.objects, threading.Event(), source_rest=rest).run()


def in_bucket(s3_client: "S3Client", bucket: str) -> set[str]:
    pages = s3_client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {each["Key"] for page in pages for each in page.get("Contents", [])}


def spoken_of(client: Client, job_ids: list[UUID]) -> Iterator[str]:
    """Every key that the rows of these jobs name."""
    for job_id in job_ids:
        result = client.store.job(job_id).result
        yield from (output.key for output in result.outputs.values()) if result else ()


def test_old_results_go_and_young_ones_stay(
    client: Client, s3_client: "S3Client", bucket: str
) -> None:
    image = client.sources.upload(png(), "x")
    old = finished(client, edit(image, "old"), days_ago=31)
    young = finished(client, edit(image, "young"), days_ago=29)
    client.store.set_retention(What.RESULTS, 30)
    foreseen = plan(client.store)

    done = prune(client)

    assert (done.results, done.objects) == (1, 1) == (foreseen.results.objects, done.results)
    keys = in_bucket(s3_client, bucket)
    assert not any(str(old) in key for key in keys)
    assert keys.issuperset(spoken_of(client, [old, young]))
    assert prune(client) == Pruned()


def test_shared_noise_stays_as_long_as_one_job_needs_it(
    client: Client, s3_client: "S3Client", bucket: str
) -> None:
    image = client.sources.upload(png(), "x")
    client.store.set_retention(What.LATENTS, 7)
    old = finished(client, edit(image, "old"), days_ago=8)
    young = finished(client, edit(image, "young"), days_ago=6)
    foreseen = plan(client.store)
    assert (foreseen.latents.objects, foreseen.shared_latents) == (0, 1)

    assert prune(client).latents == 1
    assert NOISE in in_bucket(s3_client, bucket)

    age(client, young, 8)
    assert plan(client.store).latents.objects == 1
    assert prune(client).objects == 1
    assert NOISE not in in_bucket(s3_client, bucket)
    assert in_bucket(s3_client, bucket).issuperset(spoken_of(client, [old, young]))
    prune(client)
    assert client.store.deletions() == []


def test_noise_that_a_job_may_be_reading_waits_for_its_end(
    client: Client, s3_client: "S3Client", bucket: str
) -> None:
    image = client.sources.upload(png(), "x")
    client.store.set_retention(What.LATENTS, 7)
    finished(client, edit(image, "old"), days_ago=8)
    [live] = client.submit([edit(image, "live")])

    assert prune(client).objects == 0
    assert NOISE in in_bucket(s3_client, bucket)

    client.store.cancel([live.job_id])
    assert prune(client).objects == 1


def test_a_job_that_read_the_noise_just_before_it_went_speaks_of_it_no_more(
    client: Client, s3_client: "S3Client", bucket: str
) -> None:
    # Given noise that was deleted, and a job that had read it in that very moment
    image = client.sources.upload(png(), "x")
    client.store.set_retention(What.LATENTS, 7)
    finished(client, edit(image, "old"), days_ago=8)
    prune(client)
    late = edit(image, "late")
    [made] = client.submit([late])
    end(client, made.job_id, late)
    client.objects.delete(NOISE)
    assert NOISE in set(spoken_of(client, [made.job_id]))
    # When pruning comes by again
    prune(client)
    # Then the row is put right, its image stays, and nothing is left to do
    assert in_bucket(s3_client, bucket).issuperset(spoken_of(client, [made.job_id]))
    result = client.store.job(made.job_id).result
    assert result is not None
    assert set(result.outputs) == {"image"}
    assert client.store.deletions() == []


def test_noise_that_was_made_again_stays(
    client: Client, s3_client: "S3Client", bucket: str
) -> None:
    image = client.sources.upload(png(), "x")
    client.store.set_retention(What.LATENTS, 7)
    finished(client, edit(image, "old"), days_ago=8)
    prune(client)
    again = finished(client, edit(image, "again"), days_ago=0)

    prune(client)

    assert NOISE in in_bucket(s3_client, bucket)
    assert NOISE in set(spoken_of(client, [again]))
    assert client.store.deletions() == []


def test_a_source_goes_with_the_last_row_that_names_it(
    client: Client, s3_client: "S3Client", bucket: str
) -> None:
    shared, lonely = (client.sources.upload(png(colour=c), "x") for c in ("red", "blue"))
    client.store.set_retention(What.ROWS, 1)
    finished(client, edit(shared, "old"), days_ago=2)
    finished(client, edit(lonely, "old"), days_ago=2, latents="inversions/other")
    finished(client, edit(shared, "young"), days_ago=0)

    done = prune(client)

    assert (done.rows, done.objects) == (2, 4)
    left = {key for key in in_bucket(s3_client, bucket) if key.startswith("sources/")}
    assert left == {shared.uri.removeprefix(f"s3://{bucket}/")}
    assert NOISE in in_bucket(s3_client, bucket)


def test_a_source_that_was_just_submitted_again_is_not_taken_from_its_job(
    client: Client, s3_client: "S3Client", bucket: str
) -> None:
    client.store.set_retention(What.ROWS, 1)
    image = client.sources.upload(png(), "x")
    key = image.uri.removeprefix(f"s3://{bucket}/")
    finished(client, edit(image, "old"), days_ago=2)
    before = client.objects.modified_at(key)
    assert before is not None
    eventually(lambda: datetime.now(UTC) > before + timedelta(seconds=3))
    # The door took it again; its row is not committed yet.
    client.sources.upload(png(), "x")
    touched = client.objects.modified_at(key)
    assert touched is not None
    assert touched > before

    prune(client, source_rest=3600)

    assert key in in_bucket(s3_client, bucket)
    assert s3_client.get_object(Bucket=bucket, Key=key)["Body"].read() == png()
    assert prune(client).objects == 1


def test_looking_ahead_deletes_nothing_and_says_what_would_go(
    client: Client, edict: Edict, s3_client: "S3Client", bucket: str
) -> None:
    image = client.sources.upload(png(), "x")
    old = finished(client, edit(image, "old"), days_ago=31)
    inverted = finished(
        client, InversionSpec(source=image, model=ModelRef(name="demo")), days_ago=9
    )
    assert edict("retention", "set", "--results", "30d", "--latents", "1w").exit_code == 0
    before = in_bucket(s3_client, bucket)

    shown = edict("prune", "--dry-run")

    assert "1 objects" in shown.stdout
    assert in_bucket(s3_client, bucket) == before
    assert set(spoken_of(client, [old, inverted])) < before
    assert "1 jobs lost their results, 2 their stored" in edict("prune").stdout
    assert in_bucket(s3_client, bucket) < before
    assert not list(spoken_of(client, [old, inverted]))


def test_taking_results_away_is_what_until_exported_waits_for(
    client: Client, edict: Edict, finish: Finish, photo: Path
) -> None:
    edict("submit", "edit", photo, "--from", "a", "--to", "b", "--batch", "fruit")
    finish("fruit", png(colour="navy"))
    edict("retention", "set", "--batch", "fruit", "--results", "exported")
    assert prune(client).results == 0

    assert edict("results", "fruit", "--to", "out").exit_code == 0

    assert prune(client).results == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["set"], "nothing to set"),
        (["set", "--results", "soon"], "is no period"),
        (["set", "--results", "-3d"], "is no period"),
        (["clear"], "nothing to clear"),
        (["set", "--batch", "none", "--results", "3d"], "no batch 'none'"),
    ],
)
def test_policies_that_make_no_sense_are_refused(
    edict: Edict, services: object, arguments: list[str], said: str
) -> None:
    shown = edict("retention", *arguments)
    assert shown.exit_code in {1, 2}
    assert said in shown.stderr


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_nothing_dangling(
    client: Client, s3_client: "S3Client", bucket: str
) -> None:
    # Given many old jobs and a run that is killed when it has begun to delete
    image = client.sources.upload(png(), "x")
    old = many_finished(client, image, 60)
    young = finished(client, edit(image, "young"), days_ago=0)
    client.store.set_retention(What.RESULTS, 1)
    everything = in_bucket(s3_client, bucket)
    environment = {**os.environ, **environment_of(client.settings), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "producer.cli", "prune"]
    with subprocess.Popen(command, env=environment) as running:
        eventually(lambda: client.store.deletions() or running.poll() is not None)
        eventually(lambda: len(in_bucket(s3_client, bucket)) < len(everything))
        running.kill()
    left = in_bucket(s3_client, bucket)
    # Then no row speaks of what is gone, and what is still there is in the outbox
    assert left.issuperset(spoken_of(client, [*old, young]))
    unspoken = left - set(spoken_of(client, [*old, young]))
    waiting = {entry.key for entry in client.store.deletions(limit=999)}
    assert {key for key in unspoken if key.startswith("results/")} <= waiting
    # And the next run ends what that one began
    prune(client)
    assert client.store.deletions() == []
    assert sum(key.startswith("results/") for key in in_bucket(s3_client, bucket)) == 1
    assert in_bucket(s3_client, bucket).issuperset(spoken_of(client, [*old, young]))


def test_a_job_of_another_version_is_pruned_like_its_neighbours(
    client: Client, photo: Path
) -> None:
    image = client.sources.admit(str(photo))
    strange = finished(client, edit(image, "limes"), days_ago=9)
    finished(client, edit(image, "pears"), days_ago=9)
    with client.store._engine.begin() as connection:
        spec = connection.execute(jobs.select().where(jobs.c.id == strange)).one().spec
        spec = {**spec, "of_tomorrow": 1}
        connection.execute(update(jobs).where(jobs.c.id == strange).values(spec=spec))
    client.store.set_retention(What.ROWS, 1)

    assert prune(client).rows == 2
