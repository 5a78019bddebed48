"""The whole pipeline, each process with nothing but the shipped rights: in the database, and S3."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from jobs.errors import AccessDenied, ObjectNotFound
from jobs.keys import source_key
from jobs.objects import ObjectStore
from jobs.settings import Settings
from jobs.specs import EditSpec, ModelRef, ReconstructionSpec
from jobs.states import ENDED, State
from producer.client import Client
from tests.pipeline import edict, environment_of, eventually
from tests.security.buckets import BUCKET, access_key, guarded_bucket, secret_key
from tests.worker.conftest import FEW_STEPS, TINY_MODEL, picture

URL_OF = Callable[[str], str]


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The settings that all processes share; the credentials are of nobody."""
    with guarded_bucket(tmp_path_factory.mktemp("guarded")) as server:
        yield Settings(
            s3_endpoint_url=server.endpoint_url, s3_region=server.region, s3_bucket=BUCKET
        )


def as_(name: str, storage: Settings) -> Settings:
    """The settings with the S3 credentials of one process."""
    return storage.model_copy(
        update={
            "s3_access_key_id": access_key(name),
            "s3_secret_access_key": SecretStr(secret_key(name)),
        }
    )


def bucket_of(name: str, storage: Settings) -> ObjectStore:
    return ObjectStore.from_settings(as_(name, storage))


@pytest.mark.slow
def test_a_batch_runs_with_every_process_confined_to_its_role(
    url_of: URL_OF, redis_url: str, storage: Settings, tmp_path: Path
):
    # Given an API, a control process and a worker, none of which may do more than it must
    def settings(name: str) -> Settings:
        changes = {
            "database_url": SecretStr(url_of(f"edict_{name}")),
            "redis_url": SecretStr(redis_url),
            "models": (TINY_MODEL,),
            "dtype": "float32",
            "rungs": (2, 8),
        }
        return as_(name, storage).model_copy(update=changes)

    def process(name: str, *arguments: str):
        log = tmp_path / f"{name}.log"
        return edict(name, *arguments, environment=environment_of(settings(name)), log=log)

    with (
        process("control"),
        process("worker", "--devices", "cpu"),
        Client(settings("api")) as client,
    ):
        # When two jobs and one that must fail are submitted
        client.sources.upload(picture(), "a picture")
        source = client.sources.upload(picture(), "the same again")
        model = ModelRef(name=TINY_MODEL)
        wishes = [
            ReconstructionSpec(source=source, model=model, sampler=FEW_STEPS),
            EditSpec(source=source, model=model, sampler=FEW_STEPS, edit_prompt="a dog"),
            EditSpec(source=source, model=model, sampler=FEW_STEPS, edit_prompt="dog " * 500),
        ]
        batch = client.store.open_batch("confined")
        made = client.submit(wishes, batch_id=batch.id)
        ended = eventually(
            lambda: [
                job
                for job in client.store.jobs_of(batch.id)
                if job.state in ENDED
            ][2:] and client.store.jobs_of(batch.id)
        )  # fmt: skip

        # Then each ended as it must, and what was made can be fetched by the API
        states = {job.id: job.state for job in ended}
        assert [states[each.job_id] for each in made] == [
            State.SUCCEEDED,
            State.SUCCEEDED,
            State.FAILED,
        ]
        outputs = client.store.job(made[1].job_id).result.outputs
        assert set(outputs) >= {"image", "latents"}
        for output in outputs.values():
            assert len(client.objects.get(output.key)) == output.size


def test_a_workers_s3_key_reads_and_writes_only_where_workers_do(storage: Settings):
    worker, api, control = (bucket_of(name, storage) for name in ("worker", "api", "control"))
    image = source_key(b"image", "png")
    api.put(image, b"image", "image/png")
    api.put("uploads/acme/cat", b"upload", "image/png")
    worker.put("results/a.png", b"result", "image/png")
    worker.put("inversions/a", b"noise", "application/octet-stream")

    assert worker.get(image) == b"image"
    with pytest.raises(ObjectNotFound):
        worker.get("inversions/none")
    for denied in (
        lambda: worker.get("uploads/acme/cat"),
        lambda: worker.get("results/a.png"),
        lambda: worker.put(image, b"another", "image/png"),
        lambda: worker.put("exports/a", b"", "text/plain"),
        lambda: worker.delete(image),
        lambda: worker.delete("results/a.png"),
        lambda: api.delete(image),
        lambda: api.put("results/b.png", b"forged", "image/png"),
        lambda: api.put("inversions/b", b"forged", "image/png"),
        lambda: control.put("results/b.png", b"forged", "image/png"),
        lambda: control.delete("uploads/acme/cat"),
    ):
        with pytest.raises(AccessDenied):
            denied()

    worker.delete("inversions/a")
    control.delete("results/a.png")
    control.delete(image)
    assert [control.size(key) for key in ("inversions/a", "results/a.png", image)] == [None] * 3
