"""Whole traces of jobs, collected from real processes."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from jobs.access import Scope
from jobs.specs import EditSpec
from jobs.states import ENDED, State
from producer.client import Client
from producer.embedded.ports import LOOPBACK, free_ports
from producer.embedded.valkey import Valkey
from tests.collector import Collector, Spanned, collecting
from tests.pipeline import edict, environment_of, eventually
from tests.servers import S3Server
from tests.worker.conftest import FEW_STEPS, picture, settings_of

pytestmark = pytest.mark.slow

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = f"00-{TRACE}-00f067aa0ba902b7-01"
PROMPT = "a private wish"


@dataclass
class Traced:
    """API, control and a worker, all of them traced; the client in this process is not."""

    client: Client
    collector: Collector
    url: str
    key: str

    def post(self, prompt: str, **headers: str) -> str:
        """Ask for an edit over HTTP; the job's id."""
        source = self.client.sources.upload(picture(), "picture").uri
        wish = {"source": source, "edit_prompt": prompt, "sampler": FEW_STEPS.model_dump()}
        headers["Authorization"] = f"Bearer {self.key}"
        answer = httpx.post(f"{self.url}/v1/jobs", json=wish, headers=headers, trust_env=False)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def spans_of(self, job_id: str) -> list[Spanned]:
        """All of the trace that ran the job, once the job and its trace are complete."""

        def complete() -> list[Spanned] | None:
            spans = self.collector.spans()
            ran = [each for each in spans if each.attributes.get("edict.job") == job_id]
            trace = [each for each in spans if ran and each.trace == ran[0].trace]
            return trace if any(each.name == "shard" for each in trace) else None

        eventually(lambda: self.client.store.job(UUID(job_id)).state in ENDED)
        assert self.client.store.job(UUID(job_id)).state == State.SUCCEEDED
        return eventually(complete, seconds=30)


@pytest.fixture(scope="module")
def traced(
    tmp_path_factory: pytest.TempPathFactory,
    sqlite_template: Path,
    s3: S3Server,
    module_bucket: str,
) -> Iterator[Traced]:
    folder = tmp_path_factory.mktemp("traced")
    shutil.copyfile(sqlite_template, folder / "edict.db")
    [port] = free_ports(1)
    commands = (
        ("control",),
        ("serve", "--port", str(port), "--require-key"),
        ("worker", "--devices", "cpu"),
    )
    with ExitStack() as stack:
        collector = stack.enter_context(collecting())
        redis = stack.enter_context(Valkey(folder / "valkey"))
        settings = settings_of(f"sqlite:///{folder}/edict.db", redis.url, s3, module_bucket)
        client = stack.enter_context(Client(settings))
        key = client.store.make_api_key("caller", Scope.SUBMIT)
        environment = environment_of(settings) | {
            "EDICT_TRACING_ENDPOINT": collector.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        for command in commands:
            log = folder / f"{command[0]}.log"
            stack.enter_context(edict(*command, environment=environment, log=log))
        url = f"http://{LOOPBACK}:{port}"
        eventually(lambda: answers(url), seconds=60)
        yield Traced(client, collector, url, key)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/livez", trust_env=False).is_success
    except httpx.TransportError:
        return False


def ways(spans: list[Spanned]) -> set[str]:
    """How each span came about: the names from its trace's beginning, with their processes."""
    by_id = {each.id: each for each in spans}

    def way(at: Spanned) -> str:
        before = f"{way(by_id[at.parent])} > " if at.parent in by_id else ""
        return f"{before}{at.service.removeprefix('edict-')}:{at.name}"

    return {way(each) for each in spans}


def test_a_job_is_one_trace_from_the_request_to_the_bucket(traced: Traced) -> None:
    job_id = traced.post(PROMPT, traceparent=CALLER)
    spans = traced.spans_of(job_id)

    assert {each.trace for each in spans} == {TRACE}
    assert not any(each.failed for each in spans)
    request = "api:POST /v1/jobs"
    submit = f"{request} > api:submit"
    job, noise = f"{submit} > worker:job", f"{submit} > worker:noise"
    assert {
        f"{submit} > api:sql INSERT",
        f"{submit} > api:announce",
        f"{submit} > api:announce > worker:shard",
        f"{submit} > api:announce > worker:shard > worker:sql WITH",
        f"{noise} > worker:fetch > worker:s3 GetObject",
        f"{noise} > worker:invert",
        f"{noise} > worker:upload_latents > worker:s3 PutObject",
        f"{job} > worker:sample",
        f"{job} > worker:encode",
        f"{job} > worker:upload > worker:s3 PutObject",
        f"{job} > worker:sql UPDATE",
    } <= ways(spans)
    [server] = [each for each in spans if each.kind == "server"]
    assert server.parent == CALLER.split("-")[2]
    assert server.attributes["http.route"] == "/v1/jobs"
    assert server.attributes["http.response.status_code"] == 201


def test_what_bears_no_context_begins_a_trace_of_its_own(traced: Traced) -> None:
    # Given a client that is not traced, as an older version's
    source = traced.client.sources.upload(picture(7), "another")
    spec = EditSpec(
        source=source, model=traced.client.model(), sampler=FEW_STEPS, edit_prompt=PROMPT
    )
    [made] = traced.client.submit([spec])

    spans = traced.spans_of(str(made.job_id))

    assert TRACE not in {each.trace for each in spans}
    assert {each.service for each in spans} == {"edict-worker"}
    assert {"worker:shard", "worker:shard > worker:job > worker:upload > worker:s3 PutObject"} <= (
        ways(spans)
    )


def test_a_job_that_control_announces_stays_in_its_trace(traced: Traced) -> None:
    # Given a job that nobody announces while its batch is paused
    batch = traced.client.store.open_batch("held")
    traced.client.store.pause_batch(batch.id)
    trace = TRACE[::-1]
    source = traced.client.sources.upload(picture(8), "a third").uri
    wish = {"rows": [{"source": source, "edit_prompt": "x", "sampler": FEW_STEPS.model_dump()}]}
    answer = httpx.post(
        f"{traced.url}/v1/batches",
        json={"name": "held", **wish},
        headers={
            "Authorization": f"Bearer {traced.key}",
            "traceparent": f"00-{trace}-00f067aa0ba902b7-01",
        },
        trust_env=False,
    )
    assert answer.is_success, answer.text
    [job_id] = [each.id for each in traced.client.jobs() if each.paused]

    traced.client.resume("held")

    spans = traced.spans_of(str(job_id))
    assert {each.trace for each in spans} == {trace}
    assert (
        "api:POST /v1/batches > api:submit > control:announce > worker:shard > worker:sql WITH"
        in ways(spans)
    )


def test_no_secret_and_no_prompt_travels(traced: Traced) -> None:
    traced.spans_of(traced.post(f"{PROMPT}!"))
    sent = traced.collector.raw()
    settings = traced.client.settings

    assert b"edict.job" in sent
    for secret in (
        PROMPT,
        traced.key,
        settings.s3_secret_access_key.get_secret_value(),
        settings.redis_url.get_secret_value(),
        settings.database_url.get_secret_value(),
    ):
        assert secret.encode() not in sent
