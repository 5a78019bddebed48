"""The client over HTTP does what the one in the process does."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from jobs.access import Scope
from jobs.errors import AccessDenied, InvalidInput, JobsError, NotFound, ServiceUnavailable
from jobs.filters import JobFilter
from jobs.specs import EditSpec, SamplerOptions, Source
from jobs.states import State
from producer.client import Client
from producer.remote import AsyncRemoteClient, RemoteClient
from tests.producer.api.conftest import serving
from tests.producer.conftest import Finish, png


@pytest.fixture
def url(client: Client) -> Iterator[str]:
    with serving(client, keyless=True) as url:
        yield url


@pytest.fixture
def remote(url: str) -> Iterator[RemoteClient]:
    with RemoteClient(url) as remote:
        yield remote


def specs(either: Client | RemoteClient, source: Source, count: int) -> list[EditSpec]:
    model = either.model()
    sampler = SamplerOptions(steps=7)
    return [
        EditSpec(source=source, model=model, edit_prompt=f"dog {number}", sampler=sampler)
        for number in range(count)
    ]


def test_the_same_work_is_the_same_jobs(
    client: Client, remote: RemoteClient, photo: Path, finish: Finish
) -> None:
    there = remote.submit(specs(remote, remote.sources.admit(str(photo)), 3), batch="fruit")
    here = client.submit(specs(client, client.sources.admit(str(photo)), 3), batch="fruit")
    assert [each.job_id for each in here] == [each.job_id for each in there]
    assert [each.created for each in (*here, *there)] == [False] * 3 + [True] * 3

    ids = [each.job_id for each in there]
    assert [remote.job(job_id) for job_id in ids] == [client.job(job_id) for job_id in ids]
    assert remote.batch("fruit").id == client.batch("fruit").id
    which = JobFilter(batch=client.batch("fruit").id, prompt="dog 1")
    assert remote.jobs(which) == client.jobs(which)
    assert len(remote.jobs(limit=2)) == 2
    assert (remote.cancel(ids[:2]), remote.cancel(ids[:2])) == (2, 0)
    assert (remote.retry(ids), remote.retry(ids)) == (2, 0)
    assert remote.counts("fruit") == client.counts("fruit")
    finish("fruit", png(colour="red"))
    [jobs] = remote.follow(ids)
    assert [job.state for job in jobs] == [State.SUCCEEDED] * 3
    [image] = remote.results(ids[0])
    assert remote.download(image) == png(colour="red")
    assert remote.failures() == []
    assert remote.pause("fruit").paused_at
    assert remote.resume("fruit").paused_at is None


def test_errors_are_the_same(client: Client, remote: RemoteClient, photo: Path) -> None:
    source = client.sources.admit(str(photo))
    gone = Source(uri=client.objects.uri("gone.png"), sha256="0" * 64)
    for raised, call in (
        (NotFound, lambda either: either.job(uuid4())),
        (NotFound, lambda either: either.batch("unknown/name")),
        (InvalidInput, lambda either: either.model("unknown")),
        (InvalidInput, lambda either: either.submit(specs(either, source, 1), batch="\n")),
        (InvalidInput, lambda either: either.submit(specs(either, source, 1), priority=10**6)),
        (InvalidInput, lambda either: either.sources.admit("missing.png")),
    ):
        messages = []
        for either in (client, remote):
            with pytest.raises(raised) as caught:
                call(either)
            messages.append(getattr(caught.value, "field", "same"))
        assert messages[0].split(".")[-1] == messages[1].split(".")[-1]
    with pytest.raises(InvalidInput, match="source"):
        remote.submit(specs(remote, gone, 1))


def test_keys_and_servers_that_are_wrong_are_said(client: Client) -> None:
    with serving(client, keyless=False) as url:
        with RemoteClient(url, key="edict_wrong") as remote, pytest.raises(AccessDenied):
            remote.model()
        key = client.store.make_api_key("one", Scope.READ)
        with RemoteClient(f"{url}/", key=key) as remote:
            assert remote.model() == client.model()
    with pytest.raises(InvalidInput, match="url"):
        RemoteClient("localhost:8080")


def test_a_server_that_is_away_is_asked_again(
    remote: RemoteClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []
    request = httpx.Client.request

    def failing(self: httpx.Client, **options: object) -> httpx.Response:
        tries.append(str(options["headers"]))
        if len(tries) == 1:
            raise httpx.ReadError("cut off")
        return request(self, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(httpx.Client, "request", failing)
    monkeypatch.setattr("producer.remote.synchronous.WAITS", (0.01,))
    assert remote.sources.upload(png())
    # Under the same key: the server may have done it before the answer was lost.
    assert tries[0] == tries[1]
    with RemoteClient("http://127.0.0.1:9") as nobody, pytest.raises(ServiceUnavailable):
        nobody.model()


def test_it_can_be_awaited(client: Client, url: str, photo: Path) -> None:
    async def work() -> list[State]:
        async with AsyncRemoteClient(url) as remote:
            source = await remote.sources.admit(str(photo))
            wanted = EditSpec(source=source, model=await remote.model(), edit_prompt="a dog")
            [made] = await remote.submit([wanted], batch="fruit")
            await remote.cancel([made.job_id])
            with pytest.raises(JobsError):
                await remote.job(uuid4())
            return [job.state async for [job] in remote.follow([made.job_id])]

    assert asyncio.run(work()) == [State.CANCELLED]
