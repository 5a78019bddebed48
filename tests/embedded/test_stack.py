"""The stack comes up as a whole and leaves nothing behind."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jobs.settings import load_settings
from producer.embedded.errors import ChildDied, HomeInUse
from producer.embedded.stack import BUCKET, EmbeddedStack
from tests.embedded.processes import ROOT, eventually, is_alive, owner, read_line, using

pytestmark = pytest.mark.slow

# Stands in for the command line: records its start and its end, and lives until it is asked to go.
STAND_IN = """
import os, signal, sys, time
from pathlib import Path
events = Path(os.environ["EDICT_HOME"]) / "events"
def note(what):
    with events.open("a") as file:
        file.write(f"{sys.argv[1]} {what}\\n")
def leave(*_):
    note("stopped")
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
note("started " + " ".join(sys.argv[2:]))
time.sleep(600)
"""
START_AND_WAIT = """
import sys, time
from pathlib import Path
from producer.embedded.stack import EmbeddedStack
with EmbeddedStack(Path(sys.argv[1]), command=(sys.executable, sys.argv[2])) as stack:
    stack.start()
    print("up", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    path = tmp_path / "stand_in.py"
    path.write_text(STAND_IN)
    return path


@pytest.fixture
def stack(tmp_path: Path, stand_in: Path) -> Iterator[EmbeddedStack]:
    command = (sys.executable, str(stand_in))
    with EmbeddedStack(tmp_path / "home", ("cpu", "cpu", "cpu"), command=command) as stack:
        yield stack


def events(stack: EmbeddedStack) -> list[str]:
    file = stack.home / "events"
    return file.read_text().splitlines() if file.exists() else []


def test_a_started_stack_serves_and_says_how_to_reach_it(
    stack: EmbeddedStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.start()

    published = stack.home / "stack.json"
    assert published.stat().st_mode & 0o777 == 0o600
    assert json.loads(published.read_text()) == {
        "pid": os.getpid(),
        "environment": stack.environment(),
    }
    for name in [name for name in os.environ if name.startswith("EDICT_")]:
        monkeypatch.delenv(name)
    settings = load_settings(stack.home).require_services()
    assert settings.redis_url.get_secret_value() == stack.valkey.url
    with closing(sqlite3.connect(stack.home / "edict.db")) as database:
        assert database.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
    with closing(stack.seaweedfs.client()) as client:
        assert [each["Name"] for each in client.list_buckets()["Buckets"]] == [BUCKET]
    stack.check()


def test_workers_stop_before_control_and_servers(stack: EmbeddedStack) -> None:
    stack.start()
    assert eventually(lambda: len(events(stack)) == 2)
    home = stack.home

    stack.stop()

    assert sorted(events(stack)[:2]) == ["control started ", "worker started --devices cpu,cpu,cpu"]
    assert events(stack)[2:] == ["worker stopped", "control stopped"]
    assert using(home) == []
    assert not (home / "stack.json").exists()


def test_a_second_stack_on_the_home_is_refused(stack: EmbeddedStack) -> None:
    with (
        pytest.raises(HomeInUse, match=f"in use by process {os.getpid()}"),
        EmbeddedStack(stack.home),
    ):
        pass


def test_a_dead_child_is_reported(stack: EmbeddedStack) -> None:
    stack.start()
    assert eventually(lambda: len(events(stack)) == 2)
    stack.check()
    [worker] = [
        pid for pid in using(stack.home.parent / "stand_in.py") if "worker" in _command(pid)
    ]
    os.kill(worker, signal.SIGKILL)
    assert eventually(lambda: not is_alive(worker))
    with pytest.raises(ChildDied, match="worker ended with status -9"):
        stack.check()


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def test_a_killed_stack_leaves_nothing_alive_and_starts_again(
    tmp_path: Path, stand_in: Path
) -> None:
    home = tmp_path / "home"
    with owner(START_AND_WAIT, home, stand_in) as parent:
        assert read_line(parent) == "up"
        assert len(using(tmp_path)) == 5  # itself, two servers, control, worker
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert eventually(lambda: using(tmp_path) == [])
    assert (home / "stack.json").exists()  # stale, and harmless:
    with EmbeddedStack(home, command=(sys.executable, str(stand_in))) as stack:
        stack.start()
        stack.check()
        assert json.loads((home / "stack.json").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("seconds", [0.1, 0.4, 0.8, 1.6])
def test_ctrl_c_while_it_starts_stops_what_was_started(
    tmp_path: Path, stand_in: Path, seconds: float
) -> None:
    home = tmp_path / "home"
    with owner(START_AND_WAIT, home, stand_in) as parent:
        assert eventually(lambda: (home / "stack.lock").exists())
        time.sleep(seconds)
        parent.send_signal(signal.SIGINT)
        parent.wait(timeout=30)
        assert using(tmp_path) == []
        assert not (home / "stack.json").exists()


def test_importing_it_is_cheap() -> None:
    code = (
        "import sys, producer.embedded.stack; "
        "print(*sorted({'torch', 'boto3', 'redis', 'sqlalchemy', 'celery'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == ""
