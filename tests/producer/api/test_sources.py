"""Images by their place: paths of the server's machine, what is not there, and what is counted."""

from pathlib import Path

import httpx
import pytest

from jobs.access import Quota, Scope
from jobs.settings import Settings
from producer.api import submitting
from producer.client import Client
from tests.producer.api.test_doors import bearer
from tests.producer.api.test_jobs import EDIT, made, refused
from tests.producer.conftest import png


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "cat.png").write_bytes(png())
    (folder / "words.png").write_text("These are words.")
    (tmp_path / "secret.png").write_bytes(png(colour="red"))
    return folder


@pytest.fixture
def services(services: Settings, photos: Path) -> Settings:
    return services.model_copy(
        update={"source_roots": (str(photos),), "source_hosts": ("example.org",)}
    )


def test_a_path_below_a_root_is_copied_into_the_bucket(
    api: httpx.Client, client: Client, photos: Path
) -> None:
    cat = str(photos / "cat.png")
    rows = [{**EDIT, "source": cat}, {**EDIT, "source": cat, "mask": cat}]

    [_, masked] = made(api.post("/v1/batches", json={"rows": rows}))["jobs"]
    job = made(api.post("/v1/jobs", json={**EDIT, "source": cat, "base_prompt": "x"}))

    for each in (masked, job):
        source = made(api.get(f"/v1/jobs/{each['id']}"))["spec"]["source"]["uri"]
        assert source.startswith("s3://")
        assert client.objects.read(source, max_bytes=10**6) == png()


def test_other_paths_are_refused_by_name(api: httpx.Client, photos: Path) -> None:
    outside = f"({photos}); upload the image, or add its folder to EDICT_SOURCE_ROOTS"
    for path, complaint in (
        (photos.parent / "secret.png", outside),
        (photos.parent / "nothing.png", outside),
        (photos / "nothing.png", "No such file"),
        (photos / "words.png", "no image of a kind we read"),
    ):
        rows = [{**EDIT, "source": str(path)}, {**EDIT, "source": str(photos / "cat.png")}]
        rows[1]["mask"] = str(path)
        problem = refused(api.post("/v1/batches", json={"rows": rows}), 422)

        assert [each["field"] for each in problem["errors"]] == ["rows.0.source", "rows.1.mask"]
        for each in problem["errors"]:
            assert str(path) in each["detail"]
            assert complaint in each["detail"]
    assert made(api.get("/v1/jobs"))["items"] == []


def test_a_key_that_only_looks_names_no_path(
    guarded: httpx.Client, client: Client, photos: Path
) -> None:
    key = bearer(client.store.make_api_key("one", Scope.READ))
    wish = {**EDIT, "source": str(photos / "cat.png")}

    refused(guarded.post("/v1/jobs", json=wish, headers=key), 403)


def test_what_is_not_there_is_named_without_our_servers(
    api: httpx.Client, client: Client, services: Settings
) -> None:
    wish = {**EDIT, "source": client.objects.uri("photos/nothing.png")}

    problem = refused(api.post("/v1/jobs", json=wish), 422)

    [error] = problem["errors"]
    assert error["field"] == "source"
    assert error["detail"].startswith(f"{wish['source']} does not exist")
    manifest = {"name": "x", "manifest": client.objects.uri("nothing.jsonl")}
    gone = refused(api.post("/v1/batches", json=manifest), 404)
    for each in (problem, gone):
        assert str(services.s3_endpoint_url).partition("//")[2] not in str(each)


@pytest.fixture
def at_example_org(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address that answers with an image."""

    def fetch(*_: object, **__: object) -> bytes:
        return png()

    monkeypatch.setattr(submitting, "fetch", fetch)
    return "https://example.org/cat.png"


@pytest.mark.parametrize("kind", ["path", "https", "batch"])
def test_what_is_copied_counts_for_the_quota_once(
    guarded: httpx.Client, client: Client, photos: Path, at_example_org: str, kind: str
) -> None:
    quota = Quota(max_bytes=2 * len(png()))
    key = bearer(client.store.make_api_key("one", Scope.ADMIN, tenant="one", quota=quota))
    place = at_example_org if kind == "https" else str(photos / "cat.png")

    def ask(number: int) -> httpx.Response:
        wish = {"source": place, "edit_prompt": f"dog {number}"}
        if kind == "batch":
            # Of one image: it is copied once.
            return guarded.post("/v1/batches", json={"rows": [wish] * 2}, headers=key)
        return guarded.post("/v1/jobs", json=wish, headers=key)

    assert [ask(number).status_code for number in range(2)] == [201, 201]
    assert refused(ask(3), 429)["code"] == "quota_exceeded"
    book = made(guarded.get("/v1/submissions", headers=key))["items"]
    assert [entry["bytes"] for entry in book] == [len(png())] * 2


def test_what_a_refused_batch_had_copied_counts_all_the_same(
    guarded: httpx.Client, client: Client, photos: Path
) -> None:
    quota = Quota(max_bytes=len(png()))
    key = bearer(client.store.make_api_key("one", Scope.ADMIN, tenant="one", quota=quota))
    cat = {**EDIT, "source": str(photos / "cat.png")}
    rows = [cat, {**EDIT, "source": str(photos / "nothing.png")}]

    refused(guarded.post("/v1/batches", json={"rows": rows}, headers=key), 422)

    assert refused(guarded.post("/v1/jobs", json=cat, headers=key), 429)["code"] == "quota_exceeded"


def test_an_upload_counts_when_its_address_is_asked_for_and_not_again(
    guarded: httpx.Client, client: Client
) -> None:
    quota = Quota(max_bytes=len(png()))
    key = bearer(client.store.make_api_key("one", Scope.ADMIN, tenant="one", quota=quota))
    upload = made(guarded.post("/v1/uploads", json={"size": len(png())}, headers=key))
    httpx.post(upload["url"], data=upload["fields"], files={"file": png()}, trust_env=False)

    wish = {**EDIT, "source": upload["source"]}
    assert made(guarded.post("/v1/jobs", json=wish, headers=key))["created"]
    refused(guarded.post("/v1/uploads", json={"size": 1}, headers=key), 429)
