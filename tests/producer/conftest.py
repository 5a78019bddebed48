"""The command line on real services, and pictures to feed it."""

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kombu import pools
from PIL import Image
from typer.testing import CliRunner, Result

from jobs.keys import result_key, sha256
from jobs.results import Output
from jobs.results import Result as JobResult
from jobs.settings import Settings, load_settings
from producer.cli import app
from producer.client import Client
from tests.servers import S3Server

Edict = Callable[..., Result]
Finish = Callable[[str, bytes], None]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("EDICT_") and not name.startswith("EDICT_TEST_"):
            monkeypatch.delenv(name)
    # No stack of the developer's own in the current folder.
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def service_database(sqlite_url: str) -> str:
    """The database of `services`; a module that tests every kind overrides this."""
    return sqlite_url


@pytest.fixture
def services(
    monkeypatch: pytest.MonkeyPatch,
    service_database: str,
    redis_url: str,
    s3: S3Server,
    bucket: str,
) -> Iterator[Settings]:
    """Real services, named in the environment as a deployment does it."""
    variables = {
        "EDICT_DATABASE_URL": service_database,
        "EDICT_REDIS_URL": redis_url,
        "EDICT_S3_ENDPOINT_URL": s3.endpoint_url,
        "EDICT_S3_ACCESS_KEY_ID": s3.access_key_id,
        "EDICT_S3_SECRET_ACCESS_KEY": s3.secret_access_key,
        "EDICT_S3_BUCKET": bucket,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    yield load_settings()
    pools.reset()


@pytest.fixture
def client(services: Settings) -> Iterator[Client]:
    with Client(services) as client:
        yield client


@pytest.fixture
def edict() -> Edict:
    """Run the command line in this process; bugs come out as what they are."""

    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(app, [str(part) for part in arguments], catch_exceptions=False)

    return run


@pytest.fixture
def finish(client: Client) -> Finish:
    """Do as a worker would with every announced job of a batch: this image comes out."""

    def finish_all(batch: str, image: bytes) -> None:
        jobs = client.store.jobs_of(client.store.batch(batch).id)
        for claim in client.store.claim([job.id for job in jobs], "test", lease=30):
            key = result_key(claim.job_id, image, "png")
            client.objects.put(key, image, "image/png")
            output = Output(key=key, sha256=sha256(image), size=len(image))
            round_trip = claim.spec.kind == "reconstruction"
            made = JobResult(
                outputs={"image": output},
                model_revision="r",
                fingerprint="f",
                exact=True if round_trip else None,
                psnr=20.0 if round_trip else None,
            )
            client.store.finish(claim, made)

    return finish_all


def png(size: tuple[int, int] = (32, 32), colour: str = "teal") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(png((48, 32)))
    return path
