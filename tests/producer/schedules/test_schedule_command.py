"""`edict schedule`: what people type, and what they are told."""

import json
from pathlib import Path

import pytest

from producer.client import Client
from tests.producer.conftest import Edict
from tests.producer.schedules.conftest import firer

WINTER = ["schedule", "create", "winter", "--cron", "0 2 * * *", "--timezone", "Europe/Berlin"]
PROMPTS = ["--from", "{caption}", "--template", "{caption}, in winter"]


def test_a_schedule_is_made_shown_paused_fired_and_deleted(
    edict: Edict, client: Client, inbox: Path
) -> None:
    made = edict(*WINTER, "--source", inbox, *PROMPTS, "--steps", "4")
    assert made.exit_code == 0, made.output
    assert "winter fires next at" in made.stderr
    assert " 02:00 CE" in made.stderr

    shown = edict("schedule", "show", "winter").stdout
    assert "At 02:00 every day, Europe/Berlin" in shown
    assert "{caption}, in winter" in shown
    assert str(inbox) in edict("schedule", "list").stdout

    assert edict("schedule", "pause", "winter").exit_code == 0
    assert "paused" in edict("schedule", "list").stdout
    assert edict("schedule", "run-now", "winter").exit_code == 0
    assert firer(client).fire_one()
    [firing] = json.loads(edict("schedule", "history", "winter", "--json").stdout)
    assert (firing["manual"], firing["looked_at"], firing["submitted"]) == (True, 3, 3)
    assert "(run-now)" in edict("schedule", "history", "winter").stdout
    assert edict("schedule", "resume", "winter").exit_code == 0
    assert json.loads(edict("schedule", "show", "winter", "--json").stdout)["paused_at"] is None

    assert edict("schedule", "delete", "winter").exit_code == 0
    assert "no schedule" in edict("schedule", "list").stdout
    assert client.store.counts()["queued"] == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cron", "61 * * * *"], "Bad minute"),
        (["--timezone", "Berlin"], "is no time zone"),
        (["--source", "nowhere"], "is no folder"),
        (["--source", "s3://other/in/"], "EDICT_SOURCE_BUCKETS"),
        (["--template", "{title}"], "{path}, {name}, {folder}, {caption}"),
        (["--template", " "], "edit_prompt: is empty"),
        (["--strength", "7"], "strength"),
        (["--sampler", "euler"], "'edict', 'bdia'"),
        (["--model", "unknown"], "not in the catalogue"),
        (["--select", "old"], "new, changed, recipe, model"),
        (["--select", ""], "names nothing"),
        (["--catch-up", "some"], "skip, once, all"),
        (["--overlap", "both"], "skip, queue"),
        (["--catch-up", "all", "--overlap", "skip"], "use --overlap queue"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_stored(
    edict: Edict, client: Client, inbox: Path, options: list[str], said: str
) -> None:
    refused = edict(*WINTER, "--source", inbox, *PROMPTS, *options)
    assert refused.exit_code == 2
    assert said in refused.stderr
    assert client.store.schedules() == []


@pytest.mark.parametrize("command", ["show", "pause", "resume", "run-now", "history", "delete"])
def test_a_schedule_that_is_not_there_is_said_to_be(
    edict: Edict, services: object, command: str
) -> None:
    shown = edict("schedule", command, "none")
    assert shown.exit_code == 1
    assert "edict schedule list" in shown.stderr
