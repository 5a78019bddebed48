"""The compose file on real servers: what each of its services may do in database and bucket.

Docker is not needed: the S3 server runs with the file's own options and configuration, and the
script that hands out logins runs as it does there.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
import yaml
from botocore.exceptions import ClientError
from psycopg import errors, sql
from pydantic import SecretStr

from deploy.compose.prepare import PROCESSES
from jobs.errors import AccessDenied
from jobs.objects import ObjectStore
from jobs.s3 import make_client
from jobs.settings import Settings
from producer.embedded.ports import LOOPBACK
from producer.embedded.seaweedfs import SeaweedFS
from tests.security.roles import ROLES, libpq

FOLDER = Path(__file__).parents[2] / "deploy" / "compose"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
PASSWORDS = {f"{name.upper()}_PASSWORD": f"{name}pass" for name in ("s3", *PROCESSES)}

ALL_GONE_TOMORROW: Any = {
    "Rules": [{"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}]
}


class ComposeS3(SeaweedFS):
    """The server as the compose file starts it, on a folder and at ports of this machine."""

    access_key_id = "edict"
    secret_access_key = PASSWORDS["S3_PASSWORD"]

    def _command(self):
        data, config = self.folder / "data", self.folder / "s3.json"
        data.mkdir(exist_ok=True)
        [binary, *_] = super()._command()
        config.write_text(interpolated(COMPOSE["configs"]["s3"]["content"]))
        changed = ("-dir=", "-s3.port=", "-s3.config=", "-s3.ip.bind=")
        kept = [
            each for each in COMPOSE["services"]["s3"]["command"] if not each.startswith(changed)
        ]
        ports = [
            f"-{name}={port}" for name, port in self.ports.items() if not name.startswith("admin")
        ]
        # The machine that runs the tests may have a network.
        return [
            binary, *kept, f"-dir={data}", f"-s3.config={config}", f"-s3.ip.bind={LOOPBACK}", *ports
        ]  # fmt: skip


def interpolated(text: str) -> str:
    """With the passwords of .env, as compose puts them in."""
    return re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: PASSWORDS[found[1]], text)


@pytest.fixture(scope="module")
def s3_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Where the server is; the credentials are the owner's."""
    with ComposeS3(tmp_path_factory.mktemp("compose")) as server:
        yield Settings(
            s3_endpoint_url=server.endpoint_url,
            s3_bucket="edict",
            s3_access_key_id="edict",
            s3_secret_access_key=SecretStr(PASSWORDS["S3_PASSWORD"]),
        )


@pytest.fixture
def database(postgresql_url: str) -> Iterator[str]:
    """The owner's URL; the logins that were handed out are taken away again."""
    url = libpq(postgresql_url)
    yield url
    with psycopg.connect(url, autocommit=True) as owner:
        for name in PROCESSES:
            owner.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))


def prepare(database: str, s3: Settings, **changed: str) -> None:
    """Run the script as its service does."""
    secret = s3.s3_secret_access_key
    assert secret is not None
    variables = {
        "EDICT_DATABASE_URL": database,
        "EDICT_S3_ENDPOINT_URL": str(s3.s3_endpoint_url),
        "EDICT_S3_BUCKET": s3.s3_bucket,
        "EDICT_S3_ACCESS_KEY_ID": str(s3.s3_access_key_id),
        "EDICT_S3_SECRET_ACCESS_KEY": secret.get_secret_value(),
    }
    done = subprocess.run(
        [sys.executable, FOLDER / "prepare.py"],
        env={**os.environ, **variables, **PASSWORDS, **changed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@contextmanager
def logged_in(database: str, name: str, password: str) -> Iterator[psycopg.Connection]:
    place = urlsplit(database)
    netloc = f"{name}:{password}@{place.netloc.rpartition('@')[2]}"
    with psycopg.connect(place._replace(netloc=netloc).geturl(), autocommit=True) as connection:
        yield connection


def test_each_service_logs_in_with_its_own_role_and_no_other(database: str, s3_settings: Settings):
    # Given the script ran, twice as after an upgrade
    prepare(database, s3_settings)
    prepare(database, s3_settings)

    # Then each login has one role, owns nothing, and only the API reads API keys
    for name in PROCESSES:
        with logged_in(database, name, PASSWORDS[f"{name.upper()}_PASSWORD"]) as connection:
            has = {
                role
                for role in ROLES
                if connection.execute(
                    "SELECT pg_has_role(current_user, %s, 'MEMBER')", [role]
                ).fetchone() == (True,)
            }  # fmt: skip
            assert has == {f"edict_{name}"}
            [above] = connection.execute(
                "SELECT rolsuper OR rolcreaterole OR rolcreatedb FROM pg_roles "
                "WHERE rolname = current_user"
            ).fetchone()
            assert not above
            assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
            if name == "api":
                connection.execute("SELECT digest FROM api_keys")
            else:
                with pytest.raises(errors.InsufficientPrivilege):
                    connection.execute("SELECT digest FROM api_keys")


def test_a_password_that_changed_holds_from_the_next_start_on(database: str, s3_settings: Settings):
    prepare(database, s3_settings)

    prepare(database, s3_settings, WORKER_PASSWORD="another")

    with logged_in(database, "worker", "another") as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("worker",)


def test_the_api_signs_forms_for_uploads_and_its_key_opens_no_more_by_that(
    database: str, s3_settings: Settings
):
    prepare(database, s3_settings)
    mine = {
        "s3_access_key_id": "api",
        "s3_secret_access_key": SecretStr(PASSWORDS["API_PASSWORD"]),
    }
    settings = s3_settings.model_copy(update=mine)
    api = ObjectStore.from_settings(settings)

    assert sent(api, "uploads/acme/dog").is_success
    assert api.get("uploads/acme/dog") == b"upload"

    for place in ("results/a.png", "inversions/a.safetensors", "elsewhere"):
        assert sent(api, place).status_code == 403
    with pytest.raises(AccessDenied):
        api.delete("uploads/acme/dog")
    client = make_client(settings)
    for denied in (
        lambda: client.delete_bucket(Bucket="edict"),
        lambda: client.delete_bucket_policy(Bucket="edict"),
        lambda: client.put_bucket_acl(Bucket="edict", ACL="public-read"),
        lambda: client.put_object_acl(Bucket="edict", Key="sources/a", ACL="public-read"),
        lambda: client.put_bucket_lifecycle_configuration(
            Bucket="edict", LifecycleConfiguration=ALL_GONE_TOMORROW
        ),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            denied()


def sent(store: ObjectStore, key: str) -> httpx.Response:
    """What the server answers to six bytes in a form that the store signed."""
    url, fields = store.presigned_upload(key, size=6, seconds=60)
    return httpx.post(url, data=fields, files={"file": b"upload"}, trust_env=False)


def test_each_service_has_a_key_that_opens_its_part_of_the_bucket(
    database: str, s3_settings: Settings
):
    prepare(database, s3_settings)
    control, api, worker = (
        ObjectStore.from_settings(
            s3_settings.model_copy(
                update={
                    "s3_access_key_id": name,
                    "s3_secret_access_key": SecretStr(PASSWORDS[f"{name.upper()}_PASSWORD"]),
                }
            )
        )
        for name in PROCESSES
    )

    api.put("uploads/acme/cat", b"upload", "image/png")
    api.put("sources/a", b"image", "image/png")
    worker.put("results/a.png", b"result", "image/png")

    assert worker.get("sources/a") == b"image"
    assert api.get("results/a.png") == b"result"
    for denied in (
        lambda: worker.get("uploads/acme/cat"),
        lambda: worker.delete("results/a.png"),
        lambda: api.put("results/b.png", b"forged", "image/png"),
        lambda: control.put("results/b.png", b"forged", "image/png"),
    ):
        with pytest.raises(AccessDenied):
            denied()
    control.delete("results/a.png")
    assert control.size("results/a.png") is None


def test_the_parts_behind_the_s3_server_listen_to_themselves_only():
    options = COMPOSE["services"]["s3"]["command"]

    # `weed server` binds all its parts to the first, and S3 alone to the second.
    assert "-ip.bind=127.0.0.1" in options
    assert "-s3.ip.bind=0.0.0.0" in options
    assert {"-s3.port.iceberg=0", "-s3.port.lance=0"} <= set(options)
