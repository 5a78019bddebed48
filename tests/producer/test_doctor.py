"""`edict doctor` names what is broken, says what to do, and is not held up by it."""

import time
from pathlib import Path

import pytest

from jobs.records import Worker
from jobs.settings import Settings
from jobs.store.base import utc_now
from producer import checks
from producer.client import Client
from tests.producer.conftest import Edict


@pytest.fixture
def healthy(client: Client) -> Settings:
    """Everything in order, a worker included."""
    now = utc_now()
    client.store.register_worker(Worker("w", "host", 1, "cpu:0", "demo", "r", now, now))
    return client.settings


def findings(output: str) -> dict[str, tuple[str, str]]:
    """Mark and detail by the check's name."""
    rows = (line.split(maxsplit=2) for line in output.splitlines() if line.strip())
    return {row[1]: (row[0], row[2]) for row in rows}


def test_what_is_well_is_said_to_be(edict: Edict, healthy: Settings) -> None:
    shown = edict("doctor")
    assert shown.exit_code == 0, shown.output
    found = findings(shown.stdout)
    assert list(found) == ["database", "tables", "redis", "bucket", "workers", "models"]
    assert "cpu:0 (demo)" in found["workers"][1]
    assert "small_model" in found["models"][1]


@pytest.mark.parametrize(
    ("variable", "value", "broken", "remedy"),
    [
        ("EDICT_DATABASE_URL", "sqlite:////no/such/folder/edict.db", "database", "Check that"),
        ("EDICT_DATABASE_URL", "sqlite:///empty.db", "tables", "edict migrate"),
        ("EDICT_DATABASE_URL", "mysql://host/db", "database", "supported are sqlite"),
        ("EDICT_REDIS_URL", "redis://127.0.0.1:1/0", "redis", "EDICT_REDIS_URL"),
        ("EDICT_S3_ENDPOINT_URL", "http://127.0.0.1:1", "bucket", "EDICT_S3_ENDPOINT_URL"),
        ("EDICT_S3_BUCKET", "nobody-made-this", "bucket", "does not exist"),
        ("EDICT_S3_SECRET_ACCESS_KEY", "wrong", "bucket", "EDICT_S3_ACCESS_KEY_ID"),
        ("EDICT_MODELS", "demo,/no/such/model", "models", "correct EDICT_MODELS"),
        ("EDICT_MODELS", "someone/else", "workers", "edict worker --model someone/else"),
    ],
)
def test_one_broken_service_is_found_and_the_others_stay_well(
    edict: Edict,
    healthy: Settings,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    broken: str,
    remedy: str,
) -> None:
    monkeypatch.setenv(variable, value)
    shown = edict("doctor")
    assert shown.exit_code == 1
    found = findings(shown.stdout)
    mark, detail = found[broken]
    assert mark == "bad"
    assert remedy in detail
    if variable in ("EDICT_REDIS_URL", "EDICT_S3_ENDPOINT_URL", "EDICT_S3_BUCKET"):
        assert [name for name, (mark, _) in found.items() if mark == "bad"] == [broken]


def test_a_model_folder_that_lacks_a_part_is_named(
    edict: Edict, healthy: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    (folder / "unet").mkdir(parents=True)
    monkeypatch.setenv("EDICT_MODELS", str(folder))
    assert "lacks model_index.json, vae" in findings(edict("doctor").stdout)["models"][1]


def test_with_nothing_set_every_service_says_how_to_start(edict: Edict) -> None:
    shown = edict("doctor")
    assert shown.exit_code == 1
    found = findings(shown.stdout)
    for name in ("database", "tables", "redis", "bucket", "workers"):
        assert found[name][0] == "bad"
        assert "edict up" in found[name][1]


def test_a_check_that_hangs_or_breaks_does_not_hold_up_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hang(_: Settings) -> str:
        time.sleep(5)
        return "late"

    def broken(_: Settings) -> str:
        raise RuntimeError("what is this")

    monkeypatch.setattr(
        checks, "CHECKS", (("slow", hang), ("broken", broken), ("fine", lambda _: "well"))
    )
    began = time.monotonic()
    slow, odd, fine = checks.examine(Settings(), limit=0.3)
    assert time.monotonic() - began < 3
    assert "no answer within 0.3 s" in slow.detail
    assert "what is this" in odd.detail
    assert fine.good
