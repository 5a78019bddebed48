"""The command line answers at once and says how it is used."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.producer.conftest import Edict

HEAVY = ["torch", "diffusers", "boto3", "botocore", "celery", "kombu", "sqlalchemy", "pydantic"]
ROOT = Path(__file__).parents[2]
COMMANDS = [
    *(["submit", kind] for kind in ("edit", "invert", "reconstruct")),
    *(["webhooks", what] for what in ("list", "resend", "secret")),
    *(["eval", kind] for kind in ("reconstruction", "edits")),
    *([name] for name in ("demo", "up", "submit", "status", "watch", "results", "eval")),
    *([name] for name in ("reproduce", "webhooks", "bulk", "batches", "gate", "export")),
    *(["schedule", name] for name in ("create", "list", "show", "pause", "resume", "run-now")),
    *(["schedule", name] for name in ("history", "delete")),
    *(["keys", name] for name in ("create", "list", "revoke")),
    *(["retention", name] for name in ("set", "list", "clear")),
    *([name] for name in ("schedule", "retention", "prune", "serve", "keys")),
    *([name] for name in ("worker", "control", "migrate", "doctor", "open", "init", "gallery")),
    *([name] for name in ("job", "failures", "retry", "cancel", "pause", "resume", "workers")),
    ["completion"],
]


def test_the_help_imports_nothing_heavy() -> None:
    code = f"""
import json, sys
sys.argv = ["edict", "--help"]
from producer.cli import main
try:
    main()
finally:
    loaded = [name for name in {HEAVY} if name in sys.modules]
    print(json.dumps(loaded), file=sys.stderr)
"""
    done = _python("-c", code)
    assert json.loads(done.stderr) == []
    assert "Edit images in bulk" in done.stdout


def test_the_module_runs_as_the_console_script_does() -> None:
    assert "edict submit edit" in _python("-m", "producer.cli", "--help").stdout


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_shows_examples(edict: Edict, command: list[str]) -> None:
    shown = edict(*command, "--help")
    assert shown.exit_code == 0
    assert "Examples" in shown.output
    assert f"edict {command[0]}" in shown.output.partition("Examples")[2]


@pytest.mark.parametrize("wrong", [["bogus"], ["submit", "edit", "cat.jpg"], ["status", "--no"]])
def test_wrong_usage_ends_with_two_and_no_traceback(edict: Edict, wrong: list[str]) -> None:
    shown = edict(*wrong)
    assert shown.exit_code == 2
    assert "Traceback" not in shown.output


def test_without_services_a_command_says_what_to_do(edict: Edict) -> None:
    shown = edict("status")
    assert shown.exit_code == 1
    assert "edict up" in shown.stderr
    assert "EDICT_DATABASE_URL" in shown.stderr
