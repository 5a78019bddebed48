"""Manifests on real services, and what submits them."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kombu import pools

from jobs.settings import Settings, load_settings
from jobs.specs import EditSpec
from producer.bulk import BulkOptions, Plan, Report, Template, open_manifest, run_bulk
from producer.client import Client
from tests.producer.conftest import png
from tests.servers import S3Server

Submit = Callable[..., Report]
OPTIONS = BulkOptions("bulk")


@pytest.fixture
def services(
    monkeypatch: pytest.MonkeyPatch, database_url: str, redis_url: str, s3: S3Server, bucket: str
) -> Iterator[Settings]:
    """Real services on each kind of database."""
    for name, value in {
        "EDICT_DATABASE_URL": database_url,
        "EDICT_REDIS_URL": redis_url,
        "EDICT_S3_ENDPOINT_URL": s3.endpoint_url,
        "EDICT_S3_ACCESS_KEY_ID": s3.access_key_id,
        "EDICT_S3_SECRET_ACCESS_KEY": s3.secret_access_key,
        "EDICT_S3_BUCKET": bucket,
    }.items():
        monkeypatch.setenv(name, value)
    yield load_settings()
    pools.reset()


@pytest.fixture
def submit(client: Client) -> Submit:
    def run(where: Path | str, *, dry_run: bool = False, **options: Any) -> Report:
        plan = Plan(client.model, options.pop("template", Template(None, ())))
        manifest = open_manifest(str(where), client.objects)
        wanted = replace(OPTIONS, **options)
        return run_bulk(client, manifest, plan, wanted, dry_run=dry_run)

    return run


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def photographs(count: int) -> list[dict[str, Any]]:
    """Rows of images that lie beside the manifest, with two edits each."""
    rows = []
    for number in range(count):
        Path(f"{number}.png").write_bytes(png((8 + number, 8)))
        rows.append({"image": f"{number}.png", "base_prompt": "x", "edits": ["a cat", "a dog"]})
    return rows


def prompts(client: Client, name: str = "bulk") -> list[str]:
    jobs = client.store.jobs_of(client.store.batch(name).id)
    return [job.spec.edit_prompt for job in jobs if isinstance(job.spec, EditSpec)]
