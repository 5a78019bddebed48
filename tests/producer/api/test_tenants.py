"""Several tenants at one deployment: what each sees, and how much each may ask for."""

import threading
from typing import Any

import httpx
import pytest

from jobs.access import Quota, Scope
from jobs.errors import InvalidInput
from producer.client import Client
from tests.producer.api.test_doors import bearer
from tests.producer.api.test_jobs import made, refused
from tests.producer.conftest import Finish, png

Headers = dict[str, str]


@pytest.fixture
def acme(client: Client) -> Headers:
    return bearer(client.store.make_api_key("acme", Scope.ADMIN, tenant="acme"))


@pytest.fixture
def other(client: Client) -> Headers:
    return bearer(client.store.make_api_key("other", Scope.ADMIN, tenant="other"))


@pytest.fixture
def operator(client: Client) -> Headers:
    return bearer(client.store.make_api_key("operator", Scope.ADMIN))


def form(prompt: str = "a dog", **more: Any) -> dict[str, Any]:
    import json

    job = {"edit_prompt": prompt, **more}
    return {"image": ("cat.png", png(), "image/png"), "job": (None, json.dumps(job))}


def submit(http: httpx.Client, headers: Headers, prompt: str = "a dog", **more: Any) -> Any:
    return made(http.post("/v1/jobs", files=form(prompt, **more), headers=headers))


def test_a_tenant_sees_and_steers_only_its_own(
    guarded: httpx.Client, acme: Headers, other: Headers, operator: Headers, finish: Finish
) -> None:
    # Given the same wish of two tenants, in batches of the same name
    theirs = {who: submit(guarded, key, batch="fruit") for who, key in
              (("acme", acme), ("other", other))}  # fmt: skip
    job, foreign = theirs["acme"]["id"], theirs["other"]["id"]
    assert job != foreign
    assert all(each["created"] for each in theirs.values())
    finish("acme/fruit", png())
    [own] = made(guarded.get("/v1/batches", headers=acme))["items"]
    [not_own] = made(guarded.get("/v1/batches", headers=other))["items"]
    assert own["name"] == not_own["name"] == "fruit"

    # Then every way to the other's leads nowhere
    for path in (
        f"/v1/jobs/{foreign}",
        f"/v1/jobs/{foreign}/results",
        f"/v1/batches/{not_own['id']}",
        f"/v1/batches/{not_own['id']}/events",
        "/v1/batches/other%2Ffruit",
        f"/v1/jobs?batch={not_own['id']}",
        f"/jobs/{foreign}",
        f"/jobs/{foreign}/pictures/original",
        f"/batches/{not_own['id']}",
        "/batches/other/fruit",
    ):
        assert guarded.get(path, headers=acme).status_code == 404, path
    for method, path, body in (
        ("DELETE", f"/v1/jobs/{foreign}", None),
        ("POST", f"/v1/jobs/{foreign}/retry", None),
        ("POST", f"/v1/jobs/{foreign}/mark", {"verdict": "approved"}),
        ("POST", f"/jobs/{foreign}/cancel", None),
        ("DELETE", f"/v1/batches/{not_own['id']}", None),
        *(("POST", f"/v1/batches/{not_own['id']}/{what}", None) for what in ("pause", "retry")),
        *(("POST", f"/batches/{not_own['id']}/{what}", None) for what in ("pause", "cancel")),
    ):
        answer = guarded.request(method, path, json=body, headers=acme)
        assert answer.status_code == 404, path
    listed = made(guarded.get("/v1/jobs", headers=acme))["items"]
    assert [each["id"] for each in listed] == [job]
    assert foreign not in guarded.get("/", headers=acme | {"Accept": "text/html"}).text
    # And the other's job goes on, seen by whoever sees all
    assert made(guarded.get(f"/v1/jobs/{foreign}", headers=operator))["state"] == "queued"
    assert made(guarded.get(f"/v1/jobs/{job}/results", headers=acme))["items"]


def test_a_tenant_names_no_image_that_is_not_its_own(
    guarded: httpx.Client, acme: Headers, other: Headers, operator: Headers
) -> None:
    job = submit(guarded, other)["id"]
    source = made(guarded.get(f"/v1/jobs/{job}", headers=other))["spec"]["source"]["uri"]
    upload = made(guarded.post("/v1/uploads", json={"size": len(png())}, headers=other))
    bucket = source.removeprefix("s3://").partition("/")[0]

    climbing = f"s3://{bucket}/uploads/acme/../other/{upload['source'].rpartition('/')[2]}"
    for address, complaint in (
        (source, "not yours"),
        (upload["source"], "not yours"),
        (climbing, "'.' or '..'"),
        (f"s3://{bucket}/uploads/acme", "not yours"),
    ):
        for field in ("source", "mask"):
            wish = {"source": address, "edit_prompt": "x", field: address}
            problem = refused(guarded.post("/v1/jobs", json=wish, headers=acme), 422)
            assert complaint in problem["detail"]
    assert made(guarded.post("/v1/jobs", json={"source": source, "edit_prompt": "x"},
                             headers=operator))  # fmt: skip


def test_a_batch_is_one_tenants(guarded: httpx.Client, acme: Headers, operator: Headers) -> None:
    submit(guarded, acme, batch="fruit")
    submit(guarded, operator, batch="acme/mine")

    for key, name in ((operator, "acme/fruit"), (acme, "mine")):
        answer = guarded.post("/v1/jobs", files=form(batch=name), headers=key)
        assert "not yours" in refused(answer, 422)["detail"]


def test_what_concerns_all_is_closed_to_tenants(
    guarded: httpx.Client, acme: Headers, operator: Headers
) -> None:
    for path in ("/metrics", "/v1/schedules", "/v1/workers"):
        refused(guarded.get(path, headers=acme), 403)
        assert guarded.get(path, headers=operator).status_code == 200
    wish = {"name": "x", "manifest": "s3://b/m.jsonl"}
    refused(guarded.post("/v1/batches", json=wish, headers=acme), 403)


def test_it_is_known_who_submitted_what(
    guarded: httpx.Client, acme: Headers, other: Headers, operator: Headers
) -> None:
    job = submit(guarded, acme)["id"]
    submit(guarded, other)
    refused(guarded.post("/v1/jobs", files=form(" "), headers=acme), 422)

    [entry] = made(guarded.get("/v1/submissions", headers=acme))["items"]
    assert (entry["key"], entry["tenant"], entry["job"]) == ("acme", "acme", job)
    assert (entry["jobs"], entry["bytes"]) == (1, len(png()))
    page = made(guarded.get("/v1/submissions", params={"limit": 1}, headers=operator))
    assert page["items"][0]["key"] == "other"
    rest = {"cursor": page["next"]}
    assert made(guarded.get("/v1/submissions", params=rest, headers=operator))["items"] == [entry]


@pytest.mark.parametrize(
    "quota", [Quota(max_jobs=3), Quota(max_live=3), Quota(max_bytes=3 * len(png()))], ids=str
)
def test_a_quota_holds_however_many_ask_at_once(
    guarded: httpx.Client, client: Client, quota: Quota
) -> None:
    key = client.store.make_api_key("one", Scope.SUBMIT, tenant="one", quota=quota)
    answers: list[int] = []

    def ask(number: int) -> None:
        answer = guarded.post("/v1/jobs", files=form(f"dog {number}"), headers=bearer(key))
        answers.append(answer.status_code)

    threads = [threading.Thread(target=ask, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    # One that is just being made may count twice for a moment: then it is refused too early.
    assert set(answers) <= {201, 429}
    for number in range(6, 10):
        ask(number)
    assert answers.count(201) == 3
    over = guarded.post("/v1/jobs", files=form("more"), headers=bearer(key))
    assert refused(over, 429)["code"] == "quota_exceeded"
    assert over.headers["Retry-After"]


def test_who_asks_too_often_is_told_when_to_come_back(
    guarded: httpx.Client, client: Client
) -> None:
    quota = Quota(max_requests=2)
    key = bearer(client.store.make_api_key("one", Scope.READ, quota=quota))
    free = bearer(client.store.make_api_key("free", Scope.READ))

    answers = [guarded.get("/v1/jobs", headers=key) for _ in range(5)]

    # A window may end in between: then the count begins again.
    codes = [answer.status_code for answer in answers]
    assert codes[:2] == [200, 200]
    assert 429 in codes
    assert answers[0].headers["RateLimit-Policy"] == '"requests";q=2;w=60'
    late = answers[codes.index(429)]
    assert refused(late, 429)["code"] == "too_many_requests"
    assert 1 <= int(late.headers["Retry-After"]) <= 60
    assert "r=0" in late.headers["RateLimit"]
    assert "RateLimit" not in guarded.get("/v1/jobs", headers=free).headers


@pytest.mark.parametrize("name", ["", "A", "a/b", "-a", "a" * 41, "a\n"])
def test_names_of_tenants_are_plain(client: Client, name: str) -> None:
    with pytest.raises(InvalidInput, match="tenant"):
        client.store.make_api_key("one", Scope.READ, tenant=name)
