"""A Redis that takes connections and answers nothing: nobody waits long for a hint."""

import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from kombu import pools
from pydantic import SecretStr

from jobs.access import Quota, Scope
from jobs.dispatch import dispatch
from jobs.settings import Settings
from producer.client import Client
from tests.faults.proxy import FaultProxy
from tests.producer.api.test_doors import bearer
from tests.producer.api.test_jobs import EDIT, made
from tests.producer.conftest import png

PATIENCE = 15.0
"""Seconds that a client of ours waits; a Redis that hangs would take a minute."""


@pytest.fixture
def hangs() -> threading.Event:
    """Set: Redis hears nothing any more."""
    return threading.Event()


@pytest.fixture
def services(services: Settings, hangs: threading.Event) -> Iterator[Settings]:
    url = services.redis_url.get_secret_value()
    port = urlsplit(url).port
    assert port is not None
    with FaultProxy(port, hold=lambda _: hangs.is_set()) as proxy:
        through = SecretStr(url.replace(f":{port}/", f":{proxy.port}/"))
        yield services.model_copy(update={"redis_url": through})
        hangs.clear()
        pools.reset()


@pytest.mark.parametrize("known", [True, False], ids=["connected before", "never connected"])
def test_a_submission_is_answered_and_announced_later(
    guarded: httpx.Client, client: Client, hangs: threading.Event, known: bool
) -> None:
    quota = Quota(max_requests=1_000)
    guarded.headers.update(bearer(client.store.make_api_key("one", Scope.SUBMIT, quota=quota)))
    wish = {**EDIT, "source": client.sources.upload(png(), "cat").uri}
    if known:
        made(guarded.post("/v1/jobs", json={**wish, "base_prompt": "before"}))
    hangs.set()

    job = made(guarded.post("/v1/jobs", json=wish, timeout=PATIENCE))
    batch = made(guarded.post("/v1/batches", json={"rows": [wish]}, timeout=PATIENCE))

    assert job["state"] == "pending"
    assert batch["jobs"][0]["id"] == job["id"]
    hangs.clear()
    assert dispatch(client.store, client.app) == 1
    assert made(guarded.get(f"/v1/jobs/{job['id']}"))["state"] == "queued"
