"""What a command prints for people it prints for programs, too."""

import json
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from producer.cli import app
from producer.cli.reference import commands
from producer.client import Client
from tests.producer.api.conftest import serving
from tests.producer.conftest import Edict, Finish, png

LEAVES = {
    path.removeprefix("edict "): command
    for path, command in commands(typer.main.get_command(app))
    if not isinstance(command, TyperGroup)
}
PRINT_NOTHING = {"worker", "control", "completion"}
"""Two write logs only, which are JSON already; the third prints a script for a shell."""
ELSEWHERE = {"demo", "up", "serve", "reproduce", "eval reconstruction", "eval edits"}
"""They run until they are stopped, or need a worker."""
LINES = {"webhooks list"}
"""One document a line."""

EDIT = ["submit", "edit", "photo.png", "--from", "a photo", "--to", "limes", "--batch", "fruit"]
CREATE = ["schedule", "create", "s", "--cron", "0 2 * * *", "--source", ".", "--from", "a photo"]
Shown = Callable[..., Any]


def test_every_command_that_prints_has_the_option():
    without = {
        path
        for path, command in LEAVES.items()
        if not any("--json" in parameter.opts for parameter in command.params)
    }
    assert len(LEAVES) > 40
    assert without == PRINT_NOTHING


def test_every_command_prints_json_and_nothing_else(
    edict: Edict, client: Client, finish: Finish, photo: Path, monkeypatch: pytest.MonkeyPatch
):
    run: set[str] = set()

    def shown(*command: str | Path, status: int = 0) -> Any:
        path = " ".join(str(part) for part in command[:2])
        run.add(path if path in LEAVES else str(command[0]))
        done = edict(*command, "--json")
        assert done.exit_code == status, f"{command}: {done.output}"
        if path in LINES:
            return [json.loads(line) for line in done.stdout.splitlines()]
        return json.loads(done.stdout)

    made = shown(*EDIT, "--job-webhook", "https://example.org/hook")
    job_id = made["jobs"][0]["id"]
    assert (made["batch"]["name"], made["jobs"][0]["prompt"]) == ("fruit", "limes")
    for kind in ("invert", "reconstruct"):
        assert shown("submit", kind, photo, "--from", "a photo", "--batch", "b")["refused"] == []
    refused = shown("submit", "invert", "gone.png", "--from", "a photo", status=1)
    assert (refused["jobs"], len(refused["refused"])) == ([], 1)
    assert shown("pause", "b")["paused"]
    assert shown("resume", "b")["paused"] is None
    finish("fruit", png())
    assert shown("watch", "fruit")["succeeded"] == 1
    assert shown("status")["counts"]["succeeded"] == 1
    assert shown("status", "fruit")["jobs"][0]["id"] == job_id
    assert shown("status", job_id)["state"] == "succeeded"
    assert shown("job", job_id)["id"] == job_id
    assert {each["name"] for each in shown("batches")} == {"fruit", "b"}
    assert shown("failures") == {"total": 0, "codes": {}, "jobs": []}
    assert shown("gate", "fruit", "--set", "psnr>=18")["gate"] == ["psnr>=18"]
    assert shown("results", "fruit", "--to", "out")["downloaded"] == 1
    assert shown("gallery", "fruit", "--out", "page.html") == {"file": "page.html", "results": 1}
    assert shown("export", "fruit", "--to", "set")["written"] == 1
    assert shown("cancel", "b", "--yes") == {"cancelled": 2}
    assert shown("retry", "b", "--state", "cancelled", "--yes") == {"retried": 2}
    assert len(shown("webhooks", "list")) == 1
    assert shown("webhooks", "resend", "--failed") == {"resent": 0}
    assert shown("webhooks", "secret")["secret"].startswith("whsec_")
    assert shown("workers") == []
    assert [each["model"] for each in shown("prefetch")] == ["demo"]
    Path("rows.jsonl").write_text('{"image": "photo.png", "base_prompt": "a", "edit_prompt": "b"}')
    assert shown("bulk", "rows.jsonl", "--name", "rows")["created"] == 1
    assert shown(*CREATE)["name"] == "s"
    assert [each["name"] for each in shown("schedule", "list")] == ["s"]
    assert shown("schedule", "show", "s")["cron"] == "0 2 * * *"
    assert shown("schedule", "pause", "s") == {"name": "s", "paused": True}
    assert shown("schedule", "resume", "s")["next_at"]
    assert shown("schedule", "run-now", "s")["fired"]
    assert [each["manual"] for each in shown("schedule", "history", "s")] == [True]
    assert shown("schedule", "delete", "s") == {"name": "s", "deleted": True}
    assert shown("keys", "create", "ci")["key"]
    assert [each["name"] for each in shown("keys", "list")] == ["ci"]
    assert shown("keys", "revoke", "ci") == {"name": "ci", "revoked": True}
    assert len(shown("retention", "set", "--results", "30d")) == 1
    assert len(shown("retention", "list")) == 1
    assert shown("retention", "clear", "--results") == []
    assert shown("prune")["objects"] == 0
    assert shown("migrate")["from"] == shown("migrate")["to"]
    assert {each["name"]: each["good"] for each in shown("doctor", status=1)}["database"]
    assert shown("init") == {"file": "edict.toml"}
    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    with serving(client, keyless=True) as url:
        assert shown("open", "--url", url) == {"url": f"{url}/", "opened": False}
    assert run == set(LEAVES) - PRINT_NOTHING - ELSEWHERE
