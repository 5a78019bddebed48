"""A batch's life as it is streamed."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.access import Scope
from jobs.errors import InvalidInput
from jobs.store.base import utc_now
from producer.api import events as listening
from producer.api.events import Place
from producer.client import Client
from tests.producer.api.test_doors import bearer
from tests.producer.api.test_jobs import batch_of, made, refused
from tests.producer.conftest import Finish, png

Event = tuple[str, str | None, Any]


def events(lines: Iterator[str]) -> Iterator[Event]:
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
            continue
        if "data" in fields:
            yield fields["event"], fields.get("id"), json.loads(fields["data"])
        fields = {}


def heard(api: httpx.Client, last: str | None = None) -> list[Event]:
    headers = {} if last is None else {"Last-Event-ID": last}
    with api.stream("GET", "/v1/batches/fruit/events", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        return list(events(answer.iter_lines()))


@pytest.fixture
def source(client: Client) -> str:
    return client.sources.upload(png(), "cat").uri


def test_a_listener_hears_every_end_and_then_the_end(
    api: httpx.Client, source: str, finish: Finish
) -> None:
    jobs = batch_of(api, source, 3, name="fruit")["jobs"]
    with api.stream("GET", "/v1/batches/fruit/events") as answer:
        stream = events(answer.iter_lines())
        name, _, counts = next(stream)
        assert (name, sum(counts.values())) == ("progress", 3)
        finish("fruit", png())
        rest = list(stream)

    ended = {data["id"]: data["state"] for name, _, data in rest if name == "job"}
    assert ended == {job["id"]: "succeeded" for job in jobs}
    assert rest[-1][0] == "end"
    assert [data for name, _, data in rest if name == "progress"][-1]["succeeded"] == 3


def test_a_listener_goes_on_where_it_was(api: httpx.Client, source: str, finish: Finish) -> None:
    batch_of(api, source, 1, name="fruit")
    finish("fruit", png())
    first = heard(api)
    [place] = [place for name, place, _ in first if name == "job"]
    rows = [{"source": source, "edit_prompt": "a fox"}]
    new = made(api.post("/v1/batches", json={"name": "fruit", "rows": rows}))["jobs"][0]["id"]
    finish("fruit", png(colour="red"))

    again = heard(api, place)

    assert new in {data["id"] for name, _, data in again if name == "job"}
    over = again[-1][1]
    with api.stream(
        "GET", "/v1/batches/fruit/events", headers={"Last-Event-ID": str(over)}
    ) as answer:
        assert answer.status_code == 204
    refused(api.get("/v1/batches/fruit/events", headers={"Last-Event-ID": "x"}), 422)
    refused(api.get("/v1/batches/unknown/events"), 404)


@given(st.datetimes(datetime(1970, 1, 1), timezones=st.just(UTC)), st.booleans())  # noqa: DTZ001
def test_a_place_is_read_as_it_was_written(at: datetime, over: bool) -> None:
    assert Place.parse(str(Place(at, over))) == Place(at, over)


@pytest.mark.parametrize("text", ["-1", "x", "1.5", "9" * 18, "٣", "12-end-end", "-end"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="Last-Event-ID"):
        Place.parse(text)


@pytest.mark.parametrize("way", ["revoked", "expired"])
def test_a_stream_ends_soon_after_its_key_and_others_go_on(
    guarded: httpx.Client,
    client: Client,
    source: str,
    finish: Finish,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    monkeypatch.setattr(listening, "KEY_SECONDS", 0.3)
    ends = utc_now() + timedelta(seconds=2) if way == "expired" else None
    brief = bearer(client.store.make_api_key("brief", Scope.READ, expires_at=ends))
    lasting = bearer(client.store.make_api_key("lasting", Scope.SUBMIT))
    rows = [{"source": source, "edit_prompt": "a dog"}]
    made(guarded.post("/v1/batches", json={"name": "fruit", "rows": rows}, headers=lasting))
    path = "/v1/batches/fruit/events"

    with (
        guarded.stream("GET", path, headers=brief) as cut,
        guarded.stream("GET", path, headers=lasting) as whole,
    ):
        told = events(cut.iter_lines())
        assert next(told)[0] == "progress"
        if way == "revoked":
            client.store.revoke_api_key("brief")
        assert list(told) == []
        finish("fruit", png())
        assert list(events(whole.iter_lines()))[-1][0] == "end"
    refused(guarded.get(path, headers=brief), 401)
