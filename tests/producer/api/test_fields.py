"""A refusal names each field as the request did."""

from typing import Any

import httpx
import pytest

from producer.client import Client
from tests.producer.api.test_jobs import EDIT, refused
from tests.producer.conftest import png

SCHEDULE = {"name": "a", "cron": "* * * * *", "source": "s3://a/"}


def named(answer: httpx.Response) -> list[str]:
    return [each["field"] for each in refused(answer, 422)["errors"]]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("jobs?state=failed&state=x", "state"),
        ("jobs?where=" + "x" * 101, "where"),
        ("jobs?where=x", "where"),
        ("jobs?limit=0", "limit"),
        ("jobs?cursor=x", "cursor"),
        ("jobs/x", "job_id"),
        ("batches/a/events?start=x", "start"),
    ],
)
def test_a_parameter_has_one_name_however_often_it_is_there(
    api: httpx.Client, query: str, field: str
) -> None:
    assert named(api.get(f"/v1/{query}")) == [field]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"mask": 5}, "mask"),
        ({"mask": "automatic"}, "mask"),
        ({"keep_pixels": True}, "keep_pixels"),
        ({"keep_pixels": "often", "mask": "auto"}, "keep_pixels"),
        ({"source": "cat.jpg"}, "source"),
        ({"batch": ""}, "batch"),
        ({"query": 1}, "query"),
        ({"sampler": {"guidance_interval": [0.5, "x"]}}, "sampler.guidance_interval.1"),
    ],
)
def test_a_field_of_a_job_has_the_name_that_was_sent(
    api: httpx.Client, client: Client, change: dict[str, Any], field: str
) -> None:
    wish = {"source": client.sources.upload(png(), "cat").uri, **EDIT, **change}

    assert named(api.post("/v1/jobs", json=wish)) == [field]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"rows": [EDIT, {"source": "s3://a/b", "mask": 5}]}, "rows.1.mask"),
        ({"rows": [{"source": "cat.jpg"}]}, "rows.0.source"),
        ({"name": "x", "manifest": "s3://somebody-elses/x.jsonl"}, "manifest"),
        ({"name": "x", "rows": []}, "rows"),
    ],
)
def test_a_field_of_a_row_is_found_by_the_rows_number(
    api: httpx.Client, body: dict[str, Any], field: str
) -> None:
    assert named(api.post("/v1/batches", json=body)) == [field]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"base_prompt": "{"}, "base_prompt"),
        ({"edit_prompts": ["{name}", "{nothing}"]}, "edit_prompts.1"),
        ({"source": "s3://somebody-elses/"}, "source"),
    ],
)
def test_a_prompt_of_a_schedule_is_named_and_not_its_template(
    api: httpx.Client, change: dict[str, Any], field: str
) -> None:
    assert named(api.post("/v1/schedules", json=SCHEDULE | change)) == [field]


def test_a_refusal_says_the_value_and_the_remedy(api: httpx.Client) -> None:
    source = refused(api.post("/v1/jobs", json={**EDIT, "source": "cat.jpg"}), 422)
    state = refused(api.get("/v1/jobs?state=lost"), 422)

    assert source["detail"] == (
        "source: is no place of an image; give s3://bucket/key, https://host/path or "
        "/path/of/a/file (got 'cat.jpg')"
    )
    assert "'running'" in state["detail"]
    assert "got 'lost'" in state["detail"]
