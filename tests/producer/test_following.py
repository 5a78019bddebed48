"""`edict status` and `edict watch`."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobs.records import Worker
from jobs.states import State
from producer.client import Client
from producer.progress import Pacemaker, counts_text
from tests.producer.conftest import Edict, Finish, png

EDIT = ["submit", "edit", "--from", "a photo", "--to", "limes", "--batch", "fruit"]


@pytest.fixture
def job_id(edict: Edict, client: Client, photo: Path) -> str:
    assert edict(*EDIT, photo).exit_code == 0
    [job] = client.store.jobs_of(client.store.batch("fruit").id)
    return str(job.id)


def test_a_batch_is_a_table_of_its_jobs(edict: Edict, job_id: str) -> None:
    shown = edict("status", "fruit")
    assert shown.exit_code == 0
    assert job_id in shown.stdout
    assert "0/1 done" in shown.stdout


def test_of_a_long_batch_the_first_jobs_are_shown_and_all_of_them_as_json(
    edict: Edict, client: Client, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.store.counts()[State.PENDING] == 0
    edict(*EDIT, "--to", "lemons", "--to", "pears", photo)
    monkeypatch.setattr("producer.cli.status.SHOWN_JOBS", 2)
    shown = edict("status", "fruit")
    assert "the first 2 of 3 jobs" in shown.stderr
    assert "pears" not in shown.stdout
    everything = json.loads(edict("status", "fruit", "--json").stdout)
    prompts = [job["spec"]["edit_prompt"] for job in everything["jobs"]]
    assert prompts == ["limes", "lemons", "pears"]


def test_a_finished_job_shows_its_outputs(
    edict: Edict, finish: Finish, client: Client, job_id: str
) -> None:
    finish("fruit", png())
    shown = edict("status", job_id)
    assert f"s3://{client.objects.bucket}/results/{job_id}/" in shown.stdout
    assert "limes" in shown.stdout


def test_a_failed_job_says_why_and_watching_it_ends_with_one(
    edict: Edict, client: Client, job_id: str
) -> None:
    [job] = client.store.jobs_of(client.store.batch("fruit").id)
    [claim] = client.store.claim([job.id], "test", lease=30)
    client.store.fail(claim, "prompt_too_long", "the prompt has [90] tokens; shorten it")
    assert "the prompt has [90] tokens; shorten it" in edict("status", job_id).stdout
    watched = edict("watch", "fruit")
    assert watched.exit_code == 1
    assert "prompt_too_long: the prompt has [90] tokens" in watched.stderr


def test_watching_a_finished_batch_ends_with_zero(
    edict: Edict, finish: Finish, job_id: str
) -> None:
    finish("fruit", png())
    assert edict("watch", "fruit").exit_code == 0


def test_watching_says_how_busy_the_workers_are_and_what_the_gate_flags(
    edict: Edict, client: Client, finish: Finish, photo: Path
) -> None:
    # Given a worker with four lanes, which holds one job of two, and a result below the gate
    now = datetime.now(UTC)
    worker = Worker("w1", "host", 1, "cpu", "demo", "r", now, now, lanes=4)
    client.store.register_worker(worker)
    for prompt in ("0", "1"):
        edict("submit", "reconstruct", photo, "--from", f"photo {prompt}", "--batch", "fruit")
    [one, _] = client.store.jobs_of(client.store.batch("fruit").id)
    [claim] = client.store.claim([one.id], "w1", lease=30)
    edict("gate", "fruit", "--set", "psnr>=25")
    assert client.store.busy_lanes(["w1"]) == 1
    assert client.store.busy_lanes(["w2"]) == 0
    client.store.give_back(claim)
    client.store.take_due(2)
    finish("fruit", png())

    watched = edict("watch", "fruit")

    assert watched.exit_code == 0
    assert "1 worker, 0 of 4 lanes busy (0%), 2 flagged: 2/2 done" in watched.stderr
    assert "flagged 2 by the batch's gate" in watched.stderr


def test_without_an_argument_everything_is_counted(edict: Edict, job_id: str) -> None:
    shown = edict("status")
    assert shown.exit_code == 0
    assert "queued" in shown.stdout
    assert "no worker is alive" in shown.stdout


@pytest.mark.parametrize("command", [["status"], ["watch"], ["results", "--to", "x"]])
def test_unknown_names_are_said_in_one_line(
    edict: Edict, services: object, command: list[str]
) -> None:
    shown = edict(*command, "nonsense")
    assert shown.exit_code == 1
    assert "nonsense" in shown.stderr
    assert len(shown.stderr.splitlines()) == 1


def test_the_pace_starts_with_the_first_running_job() -> None:
    pacemaker = Pacemaker()
    nothing = dict.fromkeys(State, 0)
    loading = nothing | {State.QUEUED: 10}
    started = nothing | {State.QUEUED: 8, State.RUNNING: 2}
    later = nothing | {State.QUEUED: 2, State.RUNNING: 3, State.SUCCEEDED: 5}
    assert pacemaker.pace(loading, 0.0).per_second is None
    assert pacemaker.pace(started, 60.0).per_second is None
    pace = pacemaker.pace(later, 70.0)
    assert pace.per_second == pytest.approx(0.5)
    assert pace.seconds_left == pytest.approx(10.0)
    assert counts_text(later) == "5/10 done, 3 running, 0 failed"
