"""Who may come in, what is refused at the door, and what is done only once."""

import json
import threading
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import select

from jobs.access import Scope
from jobs.database import open_database
from jobs.errors import ConfigurationError
from jobs.settings import Settings
from jobs.store.base import utc_now
from jobs.tables import api_keys
from producer.api.serve import check_keys
from producer.client import Client
from tests.producer.api.test_jobs import EDIT, made, refused
from tests.producer.conftest import Edict, png

REPEATABLE = {"Idempotency-Key": "order-1"}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def row(client: Client, prompt: str = "a dog") -> dict[str, str]:
    return {"source": client.sources.upload(png(), "cat").uri, "edit_prompt": prompt}


def test_without_a_key_nothing_is_told(guarded: httpx.Client) -> None:
    for path in ("/v1/jobs", "/v1/batches", "/v1/workers", "/v1/nothing", "/"):
        assert "WWW-Authenticate" in guarded.get(path).headers
        refused(guarded.get(path, headers=bearer("edict_wrong")), 401)
    assert guarded.get("/livez").status_code == 200


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        (Scope.READ, [200, 403, 403]),
        (Scope.SUBMIT, [200, 201, 403]),
        (Scope.ADMIN, [200, 201, 404]),
    ],
)
def test_a_key_opens_what_its_scope_covers(
    guarded: httpx.Client, client: Client, scope: Scope, allowed: list[int]
) -> None:
    headers = bearer(client.store.make_api_key("one", scope))

    answers = [
        guarded.get("/v1/jobs", headers=headers),
        guarded.post("/v1/jobs", json=row(client), headers=headers),
        guarded.delete(f"/v1/jobs/{uuid4()}", headers=headers),
    ]

    assert [answer.status_code for answer in answers] == allowed


def test_keys_end_by_revocation_and_by_time(guarded: httpx.Client, client: Client) -> None:
    key = client.store.make_api_key("one", Scope.READ)
    past = client.store.make_api_key("old", Scope.READ, expires_at=utc_now() - timedelta(seconds=1))
    assert guarded.get("/v1/jobs", headers=bearer(key)).status_code == 200

    client.store.revoke_api_key("one")

    refused(guarded.get("/v1/jobs", headers=bearer(key)), 401)
    refused(guarded.get("/v1/jobs", headers=bearer(past)), 401)


def test_a_key_is_shown_once_and_stored_as_a_digest(edict: Edict, services: Settings) -> None:
    key = edict("keys", "create", "ci", "--scope", "submit", "--days", "9").stdout.strip()

    assert key.startswith("edict_")
    listed = edict("keys", "list", "--json")
    assert json.loads(listed.stdout)[0]["scope"] == "submit"
    assert key not in edict("keys", "list").output + listed.output
    engine = open_database(services.database_url.get_secret_value())
    with engine.connect() as connection:
        stored = str(connection.execute(select(api_keys)).all())
    engine.dispose()
    assert "ci" in stored
    assert key not in stored
    assert edict("keys", "create", "ci").exit_code == 2
    assert edict("keys", "revoke", "ci").exit_code == 0
    assert not json.loads(edict("keys", "list", "--json").stdout)[0]["live"]
    assert edict("keys", "revoke", "unknown").exit_code == 1


def test_it_listens_elsewhere_only_with_a_key(client: Client, edict: Edict) -> None:
    assert check_keys(client.store, "127.0.0.1", require_key=False)
    for host, require_key in (("0.0.0.0", False), ("127.0.0.1", True), ("example.org", False)):
        with pytest.raises(ConfigurationError, match="edict keys create"):
            check_keys(client.store, host, require_key=require_key)
    assert edict("serve", "--host", "0.0.0.0").exit_code == 1

    client.store.make_api_key("one", Scope.READ)

    assert not check_keys(client.store, "0.0.0.0", require_key=False)


def test_pages_of_other_sites_cannot_use_the_keyless_server(api: httpx.Client) -> None:
    own = str(api.base_url).rstrip("/")
    refused(api.get("/v1/jobs", headers={"Host": "evil.example"}), 403)
    refused(api.post("/v1/jobs", headers={"Origin": "https://evil.example"}), 403)
    assert api.get("/v1/jobs", headers={"Origin": own}).status_code == 200


def test_every_answer_has_security_headers(api: httpx.Client) -> None:
    for path in ("/v1/jobs", "/v1/nothing", "/livez"):
        headers = api.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "no-store"
        assert "Server" not in headers


def test_bodies_over_the_limit_are_refused_whatever_they_claim(api: httpx.Client) -> None:
    def endless():
        for _ in range(9):
            yield b" " * 2**20

    problem = refused(api.post("/v1/batches", content=b" " * 40 * 2**20), 413)
    assert "8388608" in problem["detail"]
    json_type = {"Content-Type": "application/json"}
    refused(api.post("/v1/batches", content=endless(), headers=json_type), 413)


def test_odd_headers_are_refused_and_nothing_worse(api: httpx.Client) -> None:
    refused(api.get("/v1/jobs", headers={"Host": "["}), 403)
    refused(api.get("/v1/jobs", headers={"Origin": "http://["}), 403)
    refused(api.post("/livez", headers=REPEATABLE), 405)


def test_a_repeated_post_is_done_once(api: httpx.Client, client: Client) -> None:
    wish = {**row(client), "force": True}

    first = api.post("/v1/jobs", json=wish, headers=REPEATABLE)
    again = api.post("/v1/jobs", json=wish, headers=REPEATABLE)

    assert made(first) == made(again)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert len(made(api.get("/v1/jobs"))["items"]) == 1


def test_a_repeated_upload_is_the_same_request_under_another_boundary(api: httpx.Client) -> None:
    answers = [
        api.post(
            "/v1/jobs",
            files={"image": ("a.png", png()), "job": (None, json.dumps({**EDIT, "force": True}))},
            headers=REPEATABLE,
        )
        for _ in range(2)
    ]

    assert made(answers[0]) == made(answers[1])


def test_a_name_stands_for_one_request(api: httpx.Client, client: Client) -> None:
    made(api.post("/v1/jobs", json=row(client), headers=REPEATABLE))

    other = api.post("/v1/jobs", json=row(client, "a fox"), headers=REPEATABLE)

    assert refused(other, 422)["errors"][0]["field"] == "Idempotency-Key"
    refused(api.post("/v1/jobs", headers={"Idempotency-Key": "x" * 256}), 422)


def test_what_failed_may_be_tried_again_under_the_same_name(
    api: httpx.Client, client: Client
) -> None:
    refused(api.post("/v1/jobs", json=row(client, " "), headers=REPEATABLE), 422)

    assert api.post("/v1/jobs", json=row(client), headers=REPEATABLE).status_code == 201


def test_two_at_once_make_one_job(api: httpx.Client, client: Client) -> None:
    wish = {**row(client), "force": True}
    answers: list[httpx.Response] = []

    def post() -> None:
        answers.append(api.post("/v1/jobs", json=wish, headers=REPEATABLE))

    threads = [threading.Thread(target=post) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len(made(api.get("/v1/jobs"))["items"]) == 1
