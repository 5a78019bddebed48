"""`edict job`, `failures`, `cancel`, `retry`, `pause`, `resume`, `workers`."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update
from typer.testing import CliRunner

from jobs.dispatch import queue_length
from jobs.filters import JobFilter
from jobs.lanes import INTERACTIVE_PRIORITY, Lane
from jobs.messages import queue_name
from jobs.records import Worker
from jobs.specs import ModelRef
from jobs.states import State
from jobs.store.base import utc_now
from jobs.tables import jobs
from producer.cli import app
from producer.client import Client
from producer.waiting import why_waiting
from tests.producer.conftest import Edict

EDIT = ["submit", "edit", "--from", "a photo", "--batch", "fruit"]


@pytest.fixture
def job_ids(edict: Edict, client: Client, photo: Path) -> list[str]:
    assert edict(*EDIT, "--to", "limes", "--to", "blue [lemons]", photo).exit_code == 0
    return [str(job.id) for job in client.store.jobs_of(client.store.batch("fruit").id)]


@pytest.fixture
def fail(client: Client) -> Callable[..., None]:
    def fail(job_id: str, code: str = "bad_image", message: str = "it is [truncated]") -> None:
        [claim] = client.store.claim([UUID(job_id)], "w1", lease=30)
        client.store.fail(claim, code, message)

    return fail


def states(client: Client) -> list[str]:
    return [job.state.value for job in client.store.find(JobFilter())]


def shown(edict: Edict, *command: str) -> Any:
    done = edict(*command, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_job_is_shown_in_full(edict: Edict, client: Client, job_ids: list[str], fail) -> None:
    fail(job_ids[1])

    text = edict("job", job_ids[1]).stdout
    data = shown(edict, "job", job_ids[1])

    for part in ("blue [lemons]", "bad_image", "it is [truncated]", "fruit", "0 (bulk)", "w1"):
        assert part in text
    assert data["spec"]["edit_prompt"] == "blue [lemons]"
    assert data["error"] == {"code": "bad_image", "message": "it is [truncated]"}
    assert (data["state"], data["attempts"], data["waits_for"]) == ("failed", 1, None)
    assert data["times"]["started"] <= data["times"]["finished"]
    assert [batch["name"] for batch in data["batches"]] == ["fruit"]


def test_a_job_says_what_it_waits_for(edict: Edict, job_ids: list[str]) -> None:
    reason = "no worker is alive; start one with `edict worker --model demo`"
    assert shown(edict, "job", job_ids[0])["waits_for"] == reason
    assert reason in edict("job", job_ids[0]).stdout


def test_every_reason_to_wait_has_its_words(client: Client, job_ids: list[str]) -> None:
    now = utc_now()
    job = client.store.job(UUID(job_ids[0]))
    here = Worker("w", "host", 1, "cpu:0", "demo", "r1", now, now)
    later = replace(job, state=State.PENDING, due_at=now + timedelta(seconds=9), error_code="away")

    assert why_waiting(replace(job, state=State.RUNNING), [here], now) is None
    assert why_waiting(job, [here], now) == "workers are busy with other jobs"
    assert "in 9.0 s, after away" in str(why_waiting(later, [here], now))
    assert "edict resume" in str(why_waiting(replace(later, paused=True), [here], now))
    assert "not announced yet" in str(why_waiting(replace(later, due_at=now), [here], now))
    pinned = replace(job, model="demo@r2")
    assert "no live worker serves demo@r2 (but demo@r1)" in str(why_waiting(pinned, [here], now))
    assert why_waiting(replace(job, model="demo@r1"), [here], now) == why_waiting(job, [here], now)


def test_dead_letters_are_listed_by_error_and_narrowed_down(
    edict: Edict, client: Client, job_ids: list[str], fail: Callable[..., None]
) -> None:
    assert "no job has failed" in edict("failures").stderr
    fail(job_ids[0], "storage", "away")
    fail(job_ids[1])

    text = edict("failures", "fruit").stdout
    assert all(part in text for part in (*job_ids, "storage: away", "bad_image: it is [truncated]"))
    listed = shown(edict, "failures")
    assert (listed["total"], listed["codes"]) == (2, {"bad_image": 1, "storage": 1})
    assert [job["id"] for job in listed["jobs"]] == job_ids[::-1]
    narrowed = shown(edict, "failures", "fruit", "--code", "storage", "--prompt", "LIME")
    assert [job["id"] for job in narrowed["jobs"]] == job_ids[:1]
    assert shown(edict, "failures", "--kind", "inversion")["total"] == 0
    assert "1 more" in edict("failures", "--limit", "1").stderr


def test_one_job_is_retried_at_once_and_announced(
    edict: Edict, client: Client, job_ids: list[str], fail: Callable[..., None]
) -> None:
    fail(job_ids[0])

    assert shown(edict, "retry", job_ids[0]) == {"retried": 1}

    assert states(client) == ["queued", "queued"]


def test_a_batch_or_a_filter_is_retried_after_a_question(
    edict: Edict, client: Client, job_ids: list[str], fail: Callable[..., None]
) -> None:
    fail(job_ids[0], "storage")
    fail(job_ids[1])

    asked = CliRunner().invoke(app, ["retry", "fruit"], input="n\n")
    assert "Retry 2 jobs?" in asked.stderr
    assert asked.exit_code == 1
    assert states(client) == ["failed", "failed"]
    assert "1 retried" in edict("retry", "--code", "storage", "--yes").stderr
    assert states(client) == ["pending", "failed"]
    assert CliRunner().invoke(app, ["retry", "fruit"], input="y\n").exit_code == 0
    assert states(client) == ["pending", "pending"]
    edict("cancel", "fruit", "--yes")
    assert shown(edict, "retry", "fruit", "--yes") == {"retried": 0}
    assert shown(edict, "retry", "fruit", "--state", "cancelled", "--yes") == {"retried": 2}


def test_jobs_batches_and_filters_are_cancelled(
    edict: Edict, client: Client, job_ids: list[str]
) -> None:
    assert shown(edict, "cancel", "fruit", "--prompt", "blue", "--yes") == {"cancelled": 1}
    assert states(client) == ["queued", "cancelled"]
    assert "1 cancelled" in edict("cancel", job_ids[0]).stderr
    assert shown(edict, "cancel", "--all", "--yes") == {"cancelled": 0}


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        (["cancel"], 2, "name jobs or batches"),
        (["retry", "--state", "failed"], 2, "name jobs or batches"),
        (["cancel", "--all", "--state", "lost"], 2, "lost"),
        (["retry", "nothing"], 1, "there is no batch 'nothing'"),
        (["pause", "nothing"], 1, "there is no batch 'nothing'"),
        (["failures", "nothing"], 1, "there is no batch 'nothing'"),
        (["job", "nothing"], 2, "nothing"),
        (["job", "01a21042-972b-72ea-be11-bfe0ca973a01"], 1, "there is no job"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_meant_is_said_and_changes_nothing(
    edict: Edict, client: Client, job_ids: list[str], command: list[str], status: int, said: str
) -> None:
    done = edict(*command)
    assert done.exit_code == status
    assert said in done.stderr
    assert states(client) == ["queued", "queued"]


def test_one_job_with_a_filter_is_refused(edict: Edict, job_ids: list[str]) -> None:
    done = edict("cancel", job_ids[0], "--code", "storage")
    assert done.exit_code == 2
    assert "is one job" in done.stderr


def test_a_batch_is_paused_and_resumed(edict: Edict, client: Client, job_ids: list[str]) -> None:
    client.store.claim([UUID(job_ids[0])], "w1", lease=30)

    assert "paused; 1 of its jobs still run" in edict("pause", "fruit").stderr

    assert states(client) == ["running", "pending"]
    assert "(paused)" in edict("status", "fruit").stdout
    assert "edict resume fruit" in edict("status", "fruit").stdout
    assert "paused" in shown(edict, "job", job_ids[1])["waits_for"]
    assert shown(edict, "resume", "fruit")["paused"] is None
    assert not client.store.job(UUID(job_ids[1])).paused


def test_workers_are_listed_with_what_they_run_and_the_silent_ones(
    edict: Edict, client: Client, job_ids: list[str]
) -> None:
    assert "no worker is alive" in edict("workers").stdout
    now = utc_now()
    busy = Worker("w1", "box", 7, "cuda:0", "demo", "r1", now, now, lanes=8)
    client.store.register_worker(busy)
    old = now - timedelta(hours=1)
    client.store.register_worker(replace(busy, name="w2", device="cuda:1", seen_at=old))
    client.store.claim([UUID(job_ids[0])], "w1", lease=30)

    text = edict("workers").stdout
    for part in ("box", "cuda:0", "demo@r1", "1 edit", "silent", "1:00:0"):
        assert part in text
    first, second = shown(edict, "workers")
    assert (first["alive"], first["lanes"], first["revision"]) == (True, 8, "r1")
    assert [job["id"] for job in first["jobs"]] == job_ids[:1]
    assert (second["name"], second["alive"], second["jobs"]) == ("w2", False, [])


def test_a_job_of_another_version_is_shown_as_such_and_hides_no_other(
    edict: Edict, client: Client, job_ids: list[str]
) -> None:
    with client.store._engine.begin() as connection:
        strange = update(jobs).where(jobs.c.id == UUID(job_ids[0]))
        connection.execute(strange.values(spec={"kind": "novel"}))

    listed = edict("status", "fruit").stdout
    assert "written by another version" in listed
    assert "blue [lemons]" in listed
    assert "written by another version" in edict("status", job_ids[0]).stdout
    assert shown(edict, "job", job_ids[0])["spec"] == {"kind": "novel"}
    assert edict("results", "fruit", "--to", "out").exit_code == 1
    assert "another version" in Path("out/results.jsonl").read_text().splitlines()[0]


def test_a_client_announces_its_own_jobs_and_interactive_ones_apart(
    client: Client, job_ids: list[str]
) -> None:
    spec = client.store.job(UUID(job_ids[0])).spec
    [other] = client.store.submit([spec], force=True)

    mine = client.submit([spec, spec], force=True, priority=INTERACTIVE_PRIORITY)

    assert client.store.job(other.job_id).state == State.PENDING
    assert [client.store.job(each.job_id).state for each in mine] == [State.QUEUED] * 2
    assert queue_length(client.app, queue_name("demo", Lane.INTERACTIVE)) == 1


def test_a_client_steers_as_the_command_line_does(client: Client, job_ids: list[str]) -> None:
    batch = client.pause("fruit")
    assert batch.paused_at is not None
    assert client.resume("fruit").paused_at is None
    assert client.cancel(JobFilter(batch=batch.id, prompt="\0")) == 0
    assert client.cancel(JobFilter(batch=batch.id, prompt="limes")) == 1
    assert client.retry(JobFilter(states=(State.CANCELLED,))) == 1
    assert client.cancel([UUID(job_ids[1])]) == 1
    assert client.retry([UUID(job_ids[1])]) == 1
    assert client.failures() == []
    assert ModelRef(name="demo", revision="r").label == "demo@r"
