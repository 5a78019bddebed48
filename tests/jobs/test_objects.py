"""The object store, on a real S3 server."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest

from jobs.errors import (
    AccessDenied,
    ConfigurationError,
    InvalidInput,
    ObjectNotFound,
    ServiceUnavailable,
)
from jobs.objects import ObjectStore
from jobs.settings import Settings
from tests.servers import S3Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def settings_for(server: S3Server, bucket: str, **changes: Any) -> Settings:
    values = {
        "s3_endpoint_url": server.endpoint_url,
        "s3_region": server.region,
        "s3_bucket": bucket,
        "s3_access_key_id": server.access_key_id,
        "s3_secret_access_key": server.secret_access_key,
    }
    return Settings(**{**values, **changes})


@pytest.fixture
def objects(s3: S3Server, bucket: str) -> Iterator[ObjectStore]:
    with closing(ObjectStore.from_settings(settings_for(s3, bucket))) as objects:
        yield objects


def test_what_is_put_comes_back(objects: ObjectStore, s3_client: "S3Client") -> None:
    key = "results/a b/ä?#+%.png"

    objects.put(key, b"pixels", "image/png")

    assert objects.get(key) == b"pixels"
    assert objects.size(key) == 6
    assert objects.read(objects.uri(key), max_bytes=6) == b"pixels"
    head = s3_client.head_object(Bucket=objects.bucket, Key=key)
    assert (head["ContentType"], head["ContentLength"]) == ("image/png", 6)


def test_addresses_for_others_name_the_store_as_they_reach_it(s3: S3Server, bucket: str) -> None:
    outside = s3.endpoint_url.replace("127.0.0.1", "localhost")
    assert outside != s3.endpoint_url
    settings = settings_for(s3, bucket, s3_public_url=outside)

    with closing(ObjectStore.from_settings(settings)) as objects:
        objects.put("sources/a", b"pixels", "image/png")
        url = objects.presigned_url("sources/a", seconds=60)
        form_url, fields = objects.presigned_upload("uploads/b", size=6, seconds=60)
        sent = httpx.post(form_url, data=fields, files={"file": b"sketch"}, trust_env=False)

        assert url.startswith(f"{outside}/{bucket}/")
        assert httpx.get(url, trust_env=False).content == b"pixels"
        assert form_url == f"{outside}/{bucket}"
        assert sent.is_success
        assert objects.get("uploads/b") == b"sketch"


@pytest.mark.parametrize(
    "url", ["s3.example.org", "https://me@s3.example.org", "https://s3/bucket"]
)
def test_an_address_for_others_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"is not of the form https://host:8333"):
        Settings(s3_public_url=url)


def test_the_first_content_of_a_key_stays(objects: ObjectStore) -> None:
    objects.put("a", b"first", "text/plain")

    objects.put("a", b"second", "text/plain")

    assert objects.get("a") == b"first"


def test_one_of_many_racing_writers_wins_and_none_is_told_a_lie(objects: ObjectStore) -> None:
    contents = [bytes([number]) * 10_000 for number in range(8)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: objects.put("raced", content, "text/plain"), contents))

    assert objects.get("raced") in contents


def test_nothing_is_somewhere_else_than_an_empty_object(objects: ObjectStore) -> None:
    objects.put("empty", b"", "text/plain")

    assert objects.size("empty") == 0
    assert objects.get("empty") == b""
    assert objects.size("missing") is None


def test_a_missing_object_is_named(objects: ObjectStore) -> None:
    for look in (
        lambda: objects.get("missing"),
        lambda: objects.read(objects.uri("missing"), max_bytes=1),
    ):
        with pytest.raises(ObjectNotFound, match=f"s3://{objects.bucket}/missing does not exist"):
            look()


def test_a_missing_bucket_is_named(s3: S3Server) -> None:
    with closing(ObjectStore.from_settings(settings_for(s3, "no-such-bucket"))) as objects:
        for look in (objects.check, lambda: objects.get("a")):
            with pytest.raises(ObjectNotFound, match="no-such-bucket"):
                look()


def test_a_bucket_is_made_once_however_many_ask(s3: S3Server, s3_client: "S3Client") -> None:
    name = f"made-{uuid4().hex}"
    with closing(ObjectStore.from_settings(settings_for(s3, name))) as objects:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: objects.ensure_bucket(), range(4)))
        objects.ensure_bucket()

        objects.check()
    s3_client.delete_bucket(Bucket=name)


@pytest.mark.parametrize(
    "wrong", [{"s3_secret_access_key": "wrong"}, {"s3_access_key_id": "nobody"}]
)
def test_wrong_credentials_are_refused(s3: S3Server, bucket: str, wrong: dict[str, str]) -> None:
    with closing(ObjectStore.from_settings(settings_for(s3, bucket, **wrong))) as objects:
        for look in (
            objects.check,
            objects.ensure_bucket,
            lambda: objects.get("a"),
            lambda: objects.size("a"),
            lambda: objects.put("a", b"", "text/plain"),
        ):
            with pytest.raises(AccessDenied, match="EDICT_S3_ACCESS_KEY_ID"):
                look()


def test_missing_credentials_are_a_refusal_and_not_an_outage(
    s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    anonymous = settings_for(s3, bucket, s3_access_key_id=None, s3_secret_access_key=None)

    with (
        closing(ObjectStore.from_settings(anonymous)) as objects,
        pytest.raises(AccessDenied, match="set EDICT_S3_ACCESS_KEY_ID"),
    ):
        objects.check()


def test_a_server_that_is_away_is_named_quickly(s3: S3Server, bucket: str) -> None:
    away = settings_for(s3, bucket, s3_endpoint_url="http://127.0.0.1:1")
    start = time.monotonic()

    with (
        closing(ObjectStore.from_settings(away)) as objects,
        pytest.raises(ServiceUnavailable, match=r"http://127\.0\.0\.1:1 .*EDICT_S3_ENDPOINT_URL"),
    ):
        objects.check()

    assert time.monotonic() - start < 5


def test_a_server_that_hangs_up_in_the_middle_of_its_answer_is_an_outage(
    s3: S3Server, bucket: str
) -> None:
    def hang_up(listener: socket.socket) -> None:
        with suppress(OSError):  # closed at the end of the test
            while True:
                with listener.accept()[0] as connection:
                    connection.recv(65_536)
                    connection.sendall(b"HTTP/1.1 100 Continue\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=hang_up, args=[listener], daemon=True).start()
        away = f"http://127.0.0.1:{listener.getsockname()[1]}"
        settings = settings_for(s3, bucket, s3_endpoint_url=away)
        store = closing(ObjectStore.from_settings(settings))
        with store as objects, pytest.raises(ServiceUnavailable):
            objects.put("a", b"pixels", "image/png")


def test_an_endpoint_that_is_no_url_is_a_bad_setting(s3: S3Server, bucket: str) -> None:
    with pytest.raises(ConfigurationError, match="EDICT_S3_ENDPOINT_URL"):
        ObjectStore.from_settings(settings_for(s3, bucket, s3_endpoint_url="host:8333"))


def test_an_image_over_the_limit_is_not_read(objects: ObjectStore) -> None:
    objects.put("large.png", b"x" * 1_000, "image/png")

    with pytest.raises(InvalidInput, match="1000 bytes, over the limit of 999"):
        objects.read(objects.uri("large.png"), max_bytes=999)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://other/a.png",
        "s3://user@{}/a",
        "s3://{}?x/a",
        "s3://{}\n/a",
        "s3://[{}/a",
        "s3://{}#/a",
    ],
)
def test_a_bucket_that_jobs_may_not_read_is_refused(objects: ObjectStore, uri: str) -> None:
    with pytest.raises(InvalidInput, match="may not be read") as refusal:
        objects.locate(uri.format(objects.bucket))

    assert refusal.value.field == "source.uri"


@pytest.mark.parametrize("uri", ["", "s3://", "s3://bucket", "s3://bucket/", "file:///etc/passwd"])
def test_what_is_no_address_is_refused(objects: ObjectStore, uri: str) -> None:
    with pytest.raises(InvalidInput, match="not of the form s3://bucket/key"):
        objects.locate(uri)


@pytest.mark.parametrize("key", ["../ours/a", "a/../../ours/a", "./a", "a/..", "a/..\\b"])
def test_a_key_that_climbs_out_of_its_place_is_refused(objects: ObjectStore, key: str) -> None:
    with pytest.raises(InvalidInput, match="give the key in full"):
        objects.locate(f"s3://{objects.bucket}/{key}")


def test_an_allowed_bucket_can_be_read(s3: S3Server, bucket: str, s3_client: "S3Client") -> None:
    s3_client.put_object(Bucket=bucket, Key="a.png", Body=b"pixels")
    ours = settings_for(s3, "ours", source_buckets=(bucket,))

    with closing(ObjectStore.from_settings(ours)) as objects:
        assert objects.read(f"s3://{bucket}/a.png", max_bytes=100) == b"pixels"
