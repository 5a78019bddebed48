"""The HTTP API, with no more than its own role in the database."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from jobs.access import Quota, Scope
from jobs.database import open_database
from jobs.store import JobStore
from tests.producer.api.test_doors import bearer
from tests.producer.api.test_jobs import made
from tests.producer.api.test_tenants import form
from tests.security import roles


@pytest.fixture
def owner(postgresql_url: str) -> Iterator[JobStore]:
    """Makes keys: the API cannot."""
    roles.grant(postgresql_url)
    engine = open_database(postgresql_url)
    yield JobStore(engine)
    engine.dispose()


@pytest.fixture
def service_database(postgresql_url: str, owner: JobStore) -> Iterator[str]:
    with roles.login(postgresql_url, "edict_api") as url:
        yield url


@pytest.fixture
def http(guarded: httpx.Client, owner: JobStore) -> httpx.Client:
    """An administrator whose submissions and requests are counted."""
    quota = Quota(max_requests=1_000, max_live=100, max_jobs=100, max_bytes=10**6)
    guarded.headers.update(bearer(owner.make_api_key("all", Scope.ADMIN, quota=quota)))
    return guarded


def test_all_that_a_caller_asks_for_is_within_the_apis_role(http: httpx.Client):
    assert made(http.get("/readyz"))
    job = made(http.post("/v1/jobs", files=form(batch="fruit"), headers={"Idempotency-Key": "a"}))
    source = made(http.get(f"/v1/jobs/{job['id']}"))["spec"]["source"]["uri"]
    rows = [{"source": source, "edit_prompt": f"dog {number}"} for number in range(3)]
    batch = made(http.post("/v1/batches", json={"rows": rows, "name": "dogs"}))["id"]

    for path in (
        "/v1/jobs?batch=fruit",
        "/v1/batches",
        f"/v1/batches/{batch}",
        "/v1/workers",
        "/v1/models",
        "/v1/submissions",
        "/v1/schedules",
        f"/batches/{batch}",
        f"/jobs/{job['id']}",
    ):
        answer = http.get(path)
        assert answer.is_success, (path, answer.text)
    steps: list[tuple[str, str, Any]] = [
        ("POST", f"/v1/batches/{batch}/pause", None),
        ("POST", f"/v1/batches/{batch}/resume", None),
        ("DELETE", f"/v1/batches/{batch}", None),
        ("POST", f"/v1/batches/{batch}/retry", None),
        ("DELETE", f"/v1/jobs/{job['id']}", None),
        ("POST", f"/v1/jobs/{job['id']}/retry", None),
        ("POST", f"/v1/jobs/{job['id']}/mark", {"verdict": "approved"}),
        ("POST", f"/v1/jobs/{job['id']}/mark", {"verdict": None}),
        ("POST", "/v1/uploads", {"size": 10}),
    ]
    for method, path, body in steps:
        answer = http.request(method, path, json=body)
        assert answer.is_success or answer.status_code == 409, (path, answer.text)
        assert "permission denied" not in answer.text
