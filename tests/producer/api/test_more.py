"""Uploads past the server, manifests, schedules and metrics."""

import json

import httpx

from producer.client import Client
from tests.producer.api.test_jobs import EDIT, made, refused
from tests.producer.conftest import png


def test_an_image_is_uploaded_past_the_server(api: httpx.Client) -> None:
    upload = made(api.post("/v1/uploads", json={"size": len(png())}))

    def send(data: bytes, **changes: str) -> int:
        form = {"data": upload["fields"] | changes, "files": {"file": data}}
        return httpx.post(upload["url"], trust_env=False, **form).status_code

    refused(api.post("/v1/jobs", json={**EDIT, "source": upload["source"]}), 422)
    assert send(png() + b"more") >= 400
    assert send(png(), key="sources/other.png") >= 400
    refused(api.post("/v1/jobs", json={**EDIT, "source": upload["source"]}), 422)

    assert send(png()) in (200, 201, 204)

    job = made(api.post("/v1/jobs", json={**EDIT, "source": upload["source"]}))
    kept = made(api.get(f"/v1/jobs/{job['id']}"))["spec"]["source"]["uri"]
    # The address may still be written to: the job's image lies elsewhere.
    assert "/sources/" in kept
    refused(api.post("/v1/uploads", json={"size": 10**10}), 422)


def test_a_manifest_in_the_bucket_becomes_a_batch(api: httpx.Client, client: Client) -> None:
    image = client.sources.upload(png(), "cat").uri
    rows = [{"image": image, "edit_prompt": f"dog {number}"} for number in range(5)]

    def manifest(name: str, rows: list[dict[str, str]]) -> str:
        client.objects.put(name, "\n".join(map(json.dumps, rows)).encode(), "text/plain")
        return client.objects.uri(name)

    good = {"name": "fruit", "manifest": manifest("good.jsonl", rows)}
    batch = made(api.post("/v1/batches", json=good))
    assert batch["manifest"]["created"] == 5
    assert sum(made(api.get("/v1/batches/fruit"))["counts"].values()) == 5
    assert made(api.post("/v1/batches", json=good))["manifest"]["passed_over"] == 5
    bad = manifest("bad.jsonl", [*rows, {"image": "/etc/passwd", "edit_prompt": "x"}, {}])
    problem = refused(api.post("/v1/batches", json={"name": "bad", "manifest": bad}), 422)
    assert problem["errors"][0]["field"] == "manifest.6.image"
    assert api.get("/v1/batches/bad").status_code == 404
    refused(api.post("/v1/batches", json={"manifest": bad}), 422)
    refused(api.post("/v1/batches", json={"name": "x", "manifest": "/etc/passwd"}), 422)
    called = {"name": "called", "manifest": good["manifest"], "webhook": "http://169.254.169.254/"}
    assert refused(api.post("/v1/batches", json=called), 422)["errors"][0]["field"] == "webhook"
    refused(api.get("/v1/batches/called"), 404)
    gone = {"name": "x", "manifest": client.objects.uri("gone.jsonl")}
    refused(api.post("/v1/batches", json=gone), 404)


def test_schedules_are_made_and_steered(api: httpx.Client, client: Client) -> None:
    wish = {
        "name": "nightly",
        "cron": "0 2 * * *",
        "timezone": "Europe/Berlin",
        "source": client.objects.uri("new/"),
        "edit_prompts": ["{name} at night"],
        "sampler": {"steps": 9},
    }
    answer = api.post("/v1/schedules", json=wish)
    assert made(answer)["next"]
    assert made(api.get(answer.headers["Location"]))["edit_prompts"] == ["{name} at night"]
    assert client.store.schedule("nightly").template.fields == {"sampler": {"steps": 9}}
    assert made(api.post("/v1/schedules/nightly/pause"))["paused"]
    assert made(api.post("/v1/schedules/nightly/resume"))["paused"] is None
    fired = made(api.post("/v1/schedules/nightly/fire"))
    [firing] = made(api.get("/v1/schedules/nightly/firings"))["items"]
    assert (firing["id"], firing["manual"]) == (fired["id"], True)
    assert "nightly" in api.get("/", headers={"Accept": "text/html"}).text
    for change in (
        {},
        {"name": "b", "cron": "61 * * * *"},
        {"name": "b", "source": "/etc"},
        {"name": "b", "source": "s3://somebody-elses/"},
        {"name": "b", "edit_prompts": ["{nothing}"]},
    ):
        refused(api.post("/v1/schedules", json={**wish, **change}), 422)
    assert api.delete("/v1/schedules/nightly").status_code == 204
    assert made(api.get("/v1/schedules")) == {"items": []}


def test_prometheus_is_told(api: httpx.Client) -> None:
    answer = api.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'edict_jobs{state="failed"} 0.0' in answer.text
