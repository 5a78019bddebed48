"""Fixtures for every test: real servers, started when a test first asks for one.

Databases, buckets and Redis are empty for each test; the servers live for the session.
"""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import hypothesis
import pytest
import structlog

from tests import servers
from tests.servers import PostgresServer, S3Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


# How long an example takes is the machine's business: others may be using it.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")

# Several tests run at once: with a thread for each core, each would wait for the others' threads.
# torch reads this when it is first imported, which is later.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Started in the background by a shell, we ignore SIGINT, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """Commands that a test calls configure logging for their process, which is the tests' own."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers.redis_server(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """An empty Redis database."""
    from redis import Redis

    with closing(Redis.from_url(redis_server)) as client:
        client.flushdb()
    return redis_server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with servers.s3_server(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="session")
def s3_client(s3: S3Server) -> Iterator["S3Client"]:
    """A plain boto3 client, for looking at what the code under test did."""
    from boto3.session import Session
    from botocore.config import Config

    client = Session().client(
        "s3",
        endpoint_url=s3.endpoint_url,
        region_name=s3.region,
        aws_access_key_id=s3.access_key_id,
        aws_secret_access_key=s3.secret_access_key,
        config=Config(proxies={}),
    )
    with closing(client):
        yield client


@pytest.fixture
def bucket(s3_client: "S3Client") -> Iterator[str]:
    """An empty bucket."""
    yield from _new_bucket(s3_client)


@pytest.fixture(scope="module")
def module_bucket(s3_client: "S3Client") -> Iterator[str]:
    """A bucket that a module's tests share."""
    yield from _new_bucket(s3_client)


def _new_bucket(s3_client: "S3Client") -> Iterator[str]:
    name = f"test-{uuid4().hex}"
    s3_client.create_bucket(Bucket=name)
    yield name
    _remove_bucket(s3_client, name)


def _remove_bucket(client: "S3Client", name: str) -> None:
    # A test may have removed it itself.
    if name not in {each["Name"] for each in client.list_buckets()["Buckets"]}:
        return
    for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=name):
        for upload in page.get("Uploads", []):
            client.abort_multipart_upload(
                Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"]
            )
    for versions in client.get_paginator("list_object_versions").paginate(Bucket=name):
        for each in [*versions.get("Versions", []), *versions.get("DeleteMarkers", [])]:
            client.delete_object(Bucket=name, Key=each["Key"], VersionId=each["VersionId"])
    client.delete_bucket(Bucket=name)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with servers.postgres_server(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file; never opened again, only copied."""
    from migrations import upgrade

    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> Iterator[str]:
    """The name of a migrated database; never opened again, only cloned."""
    from migrations import upgrade

    name = f"edict_template_{uuid4().hex}"
    postgres_server.create(name)
    upgrade(postgres_server.url(name))
    yield name
    postgres_server.drop(name)


@pytest.fixture
def sqlite_url(tmp_path: Path, sqlite_template: Path) -> str:
    """A migrated, empty SQLite database."""
    copy = tmp_path / "edict.db"
    shutil.copyfile(sqlite_template, copy)
    return f"sqlite:///{copy}"


@pytest.fixture
def postgresql_url(postgres_server: PostgresServer, postgres_template: str) -> Iterator[str]:
    """A migrated, empty PostgreSQL database."""
    name = f"edict_test_{uuid4().hex}"
    postgres_server.create(name, template=postgres_template)
    yield postgres_server.url(name)
    postgres_server.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Any:
    """A migrated, empty database: each test runs on every kind that is supported."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture(params=["sqlite", "postgresql"])
def bare_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without tables, for the tests of the migrations themselves."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'bare.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = f"edict_bare_{uuid4().hex}"
    server.create(name)
    yield server.url(name)
    server.drop(name)
