"""`edict demo` as people run it: to the end, again, and stopped in every way there is."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.pipeline import eventually

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "producer" / "demo" / "made_by_the_model" / "lemons.png"


def demo(out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "producer.cli", "demo", "--out", str(out), *options]


@pytest.fixture
def start() -> Iterator[Callable[[list[str]], subprocess.Popen[str]]]:
    """Start a command; what is left of it at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def run(command: list[str]) -> subprocess.Popen[str]:
        environment = {**os.environ, "EDICT_DIE_WITH_PARENT": ""}
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


Start = Callable[[list[str]], subprocess.Popen[str]]


def processes_of(home: Path, having: str = "") -> list[int]:
    """Every process that was given this home, in its command or its environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with suppress(OSError):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                known = command + (folder / "environ").read_bytes()
                if str(home).encode() in known and having.encode() in command:
                    found.append(int(folder.name))
    return found


def test_own_photographs_become_a_gallery_and_nothing_is_done_twice(tmp_path: Path) -> None:
    # Given a folder with a photograph and a broken one
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    shutil.copy(PHOTO, images / "lemons.png")
    (images / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    command = demo(out, "--images", str(images))
    # When the demo runs
    first = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    # Then the broken one is refused by name, and the other is in the gallery
    assert first.returncode == 1
    assert "broken.jpg" in first.stderr
    assert "succeeded  4" in first.stdout
    assert "s3://edict/results/" in first.stdout
    page = (out / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 5
    assert "exact round trip: yes" in page
    # When the broken one is gone and it runs again
    (images / "broken.jpg").unlink()
    again = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    # Then all is well, and nothing was computed
    assert again.returncode == 0, again.stderr
    assert "all 4 jobs were done before; nothing recomputed" in again.stdout
    assert not processes_of(out)


def test_a_worker_that_dies_for_good_is_named_and_ends_the_demo(
    start: Start, tmp_path: Path
) -> None:
    process = start(demo(tmp_path / "out"))
    home = tmp_path / "out" / ".stack"
    [supervisor] = eventually(lambda: processes_of(home, "producer.cli worker"), seconds=60)
    os.kill(supervisor, signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "worker ended with status -9" in output
    eventually(lambda: not processes_of(home), seconds=20)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_the_demo_is_stopped_nothing_is_left_running(
    start: Start, tmp_path: Path, number: signal.Signals
) -> None:
    process = start(demo(tmp_path / "out"))
    home = tmp_path / "out" / ".stack"
    eventually(lambda: processes_of(home, "-m worker"), seconds=60)
    process.send_signal(number)
    process.wait(60)
    assert process.returncode == (-number if number == signal.SIGKILL else 130)
    eventually(lambda: not processes_of(home), seconds=20)


def test_the_demo_stops_with_the_make_that_started_it(start: Start, tmp_path: Path) -> None:
    # Given a make that runs the demo
    home = tmp_path / "out" / ".stack"
    words = " ".join(demo(tmp_path / "out"))
    makefile = tmp_path / "Makefile"
    makefile.write_text(f"demo:\n\t@exec env EDICT_DIE_WITH_PARENT=1 {words}\n")
    process = start(["make", "-f", str(makefile), "demo"])
    eventually(lambda: processes_of(home, "-m worker"), seconds=60)
    # When it is killed
    process.kill()
    # Then the demo stops in order, and everything with it
    eventually(lambda: not processes_of(tmp_path / "out"), seconds=40)
    time.sleep(0.1)
    assert not (home / "stack.json").exists()
