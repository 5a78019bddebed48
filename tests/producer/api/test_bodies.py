"""JSON that is made to hurt: deep, long or not JSON at all."""

import httpx
import pytest

from tests.producer.api.test_jobs import refused

HOSTILE = {
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"a":' * 200_000,
    "a deep field": b'{"source": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a long number": b'{"priority": ' + b"9" * 100_000 + b"}",
    "a number that is none": b'{"priority": NaN}',
    "an endless exponent": b'{"sampler": {"strength": 1e999999999}}',
    "many fields": b"{" + b",".join(b'"%d":1' % number for number in range(200_000)) + b"}",
    "a long name": b'{"' + b"a" * 1_000_000 + b'": 1}',
    "lone surrogates": b'{"edit_prompt": "\\ud800", "source": "s3://a/b"}',
    "no UTF-8": b'{"edit_prompt": "\xff\xfe"}',
    "a zero byte": b'{"edit_prompt": "a\\u0000b", "source": "s3://a/b"}',
}


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/batches", "/v1/schedules", "/v1/uploads"])
def test_json_that_is_made_to_hurt_is_refused(api: httpx.Client, path: str) -> None:
    for name, body in HOSTILE.items():
        answer = api.post(path, content=body, headers={"Content-Type": "application/json"})

        assert answer.status_code in (400, 422), (name, answer.text[:500])
        refused(answer, answer.status_code)
        assert len(answer.content) < 100_000, name


def test_a_form_that_holds_such_json_is_refused(api: httpx.Client) -> None:
    for name, body in HOSTILE.items():
        answer = api.post("/v1/jobs", files={"job": (None, body)})

        assert answer.status_code in (400, 413, 422), (name, answer.text[:500])
        refused(answer, answer.status_code)
