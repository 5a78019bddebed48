"""Whatever is sent, the server answers as its own description says, and never with a bug."""

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode, checks
from schemathesis.errors import InvalidSchema

from producer.client import Client
from tests.producer.api.test_jobs import batch_of
from tests.producer.conftest import Finish, png

EXAMPLES = 6
# Not that all that breaks the schema is refused: numbers as text are read, as forms send them.
CHECKS = [
    getattr(checks, name)
    for name in (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    )
]


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_no_request_leads_to_what_is_not_described(
    api: httpx.Client, client: Client, finish: Finish, mode: GenerationMode
) -> None:
    # Given something to find
    batch_of(api, client.sources.upload(png(), "cat").uri, 2, name="0")
    finish("0", png())
    schema = schemathesis.openapi.from_dict(api.get("/openapi.json").json())
    asked: set[str] = set()

    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: schemathesis.Case) -> None:
            response = case.call(base_url=str(api.base_url), timeout=30)
            case.validate_response(response, checks=CHECKS)
            asked.add(case.operation.label)

        try:
            check()
        except (InvalidSchema, Unsatisfiable):
            # Nothing can be wrong about what takes no input.
            assert mode is GenerationMode.NEGATIVE

    assert len(asked) > 20
