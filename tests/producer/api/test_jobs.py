"""Jobs and batches over HTTP, as a backend in another language would use them."""

import json
import uuid
from typing import Any

import httpx
import pytest

from producer.client import Client
from tests.producer.conftest import Finish, png

EDIT = {"base_prompt": "a cat", "edit_prompt": "a dog"}


@pytest.fixture
def source(client: Client) -> str:
    """An image that lies in the bucket."""
    return client.sources.upload(png(), "cat").uri


def made(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json()


def refused(answer: httpx.Response, status: int) -> Any:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["type"]) == (status, "about:blank")
    return problem


def batch_of(api: httpx.Client, source: str, count: int, **more: Any) -> Any:
    rows = [{"source": source, "edit_prompt": f"dog {number}"} for number in range(count)]
    return made(api.post("/v1/batches", json={"rows": rows, **more}))


def test_a_job_is_submitted_with_its_image(api: httpx.Client, client: Client) -> None:
    form = {"image": ("cat.png", png(), "image/png"), "job": (None, json.dumps(EDIT))}

    answer = api.post("/v1/jobs", files=form)

    assert answer.status_code == 201
    assert made(answer)["created"]
    job = made(api.get(answer.headers["Location"]))
    assert job["spec"]["edit_prompt"] == "a dog"
    assert client.objects.read(job["spec"]["source"]["uri"], max_bytes=10**6) == png()


def test_the_same_wish_is_the_same_job(api: httpx.Client, source: str) -> None:
    first = api.post("/v1/jobs", json={**EDIT, "source": source})
    again = api.post("/v1/jobs", json={**EDIT, "source": source})

    assert (first.status_code, again.status_code) == (201, 200)
    assert made(again) == {**made(first), "created": False, "state": made(again)["state"]}


def test_a_mask_comes_with_the_image(api: httpx.Client) -> None:
    form = {
        "image": ("cat.png", png(), "image/png"),
        "mask": ("mask.png", png(colour="white"), "image/png"),
        "job": (None, json.dumps(EDIT)),
    }
    job = made(api.post("/v1/jobs", files=form))

    spec = made(api.get(f"/v1/jobs/{job['id']}"))["spec"]
    assert spec["mask"]["sha256"] != spec["source"]["sha256"]
    assert "keep_pixels" not in spec


def test_pixels_are_kept_where_it_is_asked_for(api: httpx.Client, source: str) -> None:
    wish = {**EDIT, "source": source, "mask": "auto"}
    without = made(api.post("/v1/jobs", json=wish))
    job = made(api.post("/v1/jobs", json={**wish, "keep_pixels": True}))

    assert job["id"] != without["id"]
    assert made(api.get(f"/v1/jobs/{job['id']}"))["spec"]["keep_pixels"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"edit_prompt": " "}, "edit_prompt"),
        ({"edit_prompt": None}, "edit_prompt"),
        ({"sampler": {"steps": 0}}, "sampler.steps"),
        ({"kind": "inversion"}, "edit_prompt"),
        ({"colour": "red"}, "colour"),
        ({"source": None}, "source"),
        ({"source": "/etc/passwd"}, "source"),
        ({"source": "https://example.org/cat.png"}, "source"),
        ({"source": "s3://somebody-elses/cat.png"}, "source"),
        ({"mask": "/etc/passwd"}, "mask"),
        ({"keep_pixels": True}, "keep_pixels"),
        ({"model": "unknown"}, "model"),
        ({"priority": 10**6}, "priority"),
        ({"webhook": "http://169.254.169.254/"}, "webhook"),
    ],
)
def test_what_is_wrong_is_named(
    api: httpx.Client, client: Client, source: str, change: dict[str, Any], field: str
) -> None:
    problem = refused(api.post("/v1/jobs", json={**EDIT, "source": source, **change}), 422)

    assert field in problem["errors"][0]["field"]
    assert made(api.get("/v1/jobs"))["items"] == []


def test_an_upload_that_is_no_image_is_refused(api: httpx.Client) -> None:
    form = {"image": ("cat.png", b"<script>", "image/png"), "job": (None, json.dumps(EDIT))}

    problem = refused(api.post("/v1/jobs", files=form), 422)

    assert problem["errors"][0]["field"] == "source"
    assert "no image" in problem["detail"]


def test_bodies_of_other_types_are_refused(api: httpx.Client) -> None:
    refused(api.post("/v1/jobs", content="x", headers={"Content-Type": "text/plain"}), 415)
    refused(api.post("/v1/jobs", content="{", headers={"Content-Type": "application/json"}), 400)
    refused(api.get("/v1/jobs/not-an-id"), 422)
    refused(api.get(f"/v1/jobs/{uuid.uuid4()}"), 404)
    refused(api.put("/v1/jobs"), 405)


def test_a_batch_is_taken_whole_or_not_at_all(api: httpx.Client, source: str) -> None:
    rows = [{**EDIT, "source": source}, {"source": source}, {**EDIT, "source": source + "gone"}]

    problem = refused(api.post("/v1/batches", json={"name": "fruit", "rows": rows}), 422)

    fields = [each["field"] for each in problem["errors"]]
    assert fields == ["rows.1.edit_prompt", "rows.2.source"]
    assert made(api.get("/v1/batches"))["items"] == []


def test_a_webhook_that_may_not_be_called_leaves_no_batch_behind(
    api: httpx.Client, source: str
) -> None:
    row, webhook = {**EDIT, "source": source}, "http://169.254.169.254/"
    batch = {"name": "fruit", "rows": [row], "webhook": webhook}

    in_batch = refused(api.post("/v1/jobs", json={**row, "batch": "f", "webhook": webhook}), 422)
    of_batch = refused(api.post("/v1/batches", json=batch), 422)

    assert [each["errors"][0]["field"] for each in (in_batch, of_batch)] == ["webhook"] * 2
    assert made(api.get("/v1/batches"))["items"] == []


def test_pages_hold_every_job_once(api: httpx.Client, source: str) -> None:
    submitted = batch_of(api, source, 5, name="fruit")
    batch_of(api, source, 7, name="more")

    seen: list[str] = []
    query = {"batch": "fruit", "limit": 2}
    while True:
        page = made(api.get("/v1/jobs", params=query))
        seen += [job["id"] for job in page["items"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]

    assert seen == [job["id"] for job in reversed(submitted["jobs"])]
    pages = made(api.get("/v1/batches", params={"limit": 1}))
    assert [batch["name"] for batch in pages["items"]] == ["more"]
    rest = made(api.get("/v1/batches", params={"cursor": pages["next"]}))
    assert [batch["name"] for batch in rest["items"]] == ["fruit"]


def test_filters_narrow_the_list(api: httpx.Client, source: str) -> None:
    [_, second] = batch_of(api, source, 2)["jobs"]
    made(api.delete(f"/v1/jobs/{second['id']}"))

    found = made(api.get("/v1/jobs", params={"state": ["cancelled", "failed"]}))["items"]
    assert [job["id"] for job in found] == [second["id"]]
    assert len(made(api.get("/v1/jobs", params={"prompt": "DOG 0"}))["items"]) == 1
    refused(api.get("/v1/jobs", params={"batch": "unknown"}), 404)
    refused(api.get("/v1/jobs", params={"limit": 0}), 422)


def test_jobs_are_cancelled_and_retried(api: httpx.Client, source: str) -> None:
    job = f"/v1/jobs/{batch_of(api, source, 1)['jobs'][0]['id']}"

    refused(api.post(f"{job}/retry"), 409)
    assert made(api.delete(job))["state"] == "cancelled"
    assert made(api.post(f"{job}/retry"))["state"] in ("pending", "queued")


def test_a_batch_is_paused_resumed_and_cancelled(api: httpx.Client, source: str) -> None:
    batch_of(api, source, 3, name="fruit")

    assert made(api.post("/v1/batches/fruit/pause"))["paused"]
    assert made(api.post("/v1/batches/fruit/resume"))["paused"] is None
    assert made(api.delete("/v1/batches/fruit")) == {"jobs": 3}
    assert made(api.get("/v1/batches/fruit"))["counts"]["cancelled"] == 3
    assert made(api.post("/v1/batches/fruit/retry")) == {"jobs": 0}


def test_results_can_be_fetched_by_whoever_has_their_address(
    api: httpx.Client, source: str, finish: Finish
) -> None:
    job = batch_of(api, source, 1, name="fruit")["jobs"][0]["id"]
    refused(api.get(f"/v1/jobs/{job}/results"), 409)
    finish("fruit", png(colour="red"))

    [image] = made(api.get(f"/v1/jobs/{job}/results"))["items"]

    assert image["role"] == "image"
    assert httpx.get(image["url"], trust_env=False).content == png(colour="red")


def test_the_server_says_how_it_is(api: httpx.Client) -> None:
    assert made(api.get("/livez")) == {"alive": True}
    ready = made(api.get("/readyz"))
    assert ready["ready"]
    assert set(ready["checks"]) == {"database", "tables", "redis", "bucket"}
    assert made(api.get("/v1/workers")) == {"items": []}


def test_the_description_knows_both_bodies_and_the_repetition_header(api: httpx.Client) -> None:
    described = made(api.get("/openapi.json"))

    post = described["paths"]["/v1/jobs"]["post"]
    assert set(post["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    assert described["components"]["schemas"]["JobWish"]["properties"]["edit_prompt"]
    for path, methods in described["paths"].items():
        if "post" in methods:
            names = [each["name"] for each in methods["post"]["parameters"]]
            assert "Idempotency-Key" in names, path
