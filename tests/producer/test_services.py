"""`edict migrate`, `control` and `worker`: the commands that run a deployment."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from jobs.processes import Child
from jobs.settings import Settings
from producer.cli import worker
from producer.client import Client
from tests.pipeline import edict as running
from tests.pipeline import environment_of, eventually
from tests.producer.conftest import Edict

ROOT = Path(__file__).parents[2]


def test_migrating_says_from_where_to_where(
    edict: Edict, bare_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDICT_DATABASE_URL", bare_database_url)
    first = edict("migrate")
    assert first.exit_code == 0
    assert "empty → " in first.stdout
    assert "is up to date" in edict("migrate").stdout


def test_migrating_nothing_says_what_to_set(edict: Edict) -> None:
    shown = edict("migrate")
    assert shown.exit_code == 1
    assert "EDICT_DATABASE_URL" in shown.stderr


def test_a_database_that_was_never_migrated_is_said_to_be(
    edict: Edict, services: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDICT_DATABASE_URL", "sqlite:///empty.db")
    shown = edict("status")
    assert shown.exit_code == 1
    assert "edict migrate" in shown.stderr


def test_a_worker_without_torch_says_what_to_install(
    edict: Edict, services: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        worker, "find_spec", lambda name: None if name == "torch" else find_spec(name)
    )
    shown = edict("worker", "--devices", "cpu")
    assert shown.exit_code == 1
    assert "pip install 'edict[worker]'" in shown.stderr


def test_control_announces_what_is_due_and_ends_in_order(
    client: Client, edict: Edict, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a job that was committed while Redis was away
    monkeypatch.setenv("EDICT_REDIS_URL", "redis://127.0.0.1:1/0")
    done = edict("submit", "edit", photo, "--from", "a", "--to", "b", "--batch", "late")
    assert done.exit_code == 0
    assert client.store.counts()["pending"] == 1
    # When a control process runs on a Redis that answers
    environment = {**environment_of(client.settings), "PYTHONPATH": str(ROOT)}
    control: Child = running("control", environment=environment, log=tmp_path / "control.log")
    with control:
        # Then the job is announced
        eventually(lambda: client.store.counts()["queued"] == 1, seconds=20)
        control.terminate()
        assert control.wait(10) == 0
