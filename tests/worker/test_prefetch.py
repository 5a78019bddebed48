"""Models that are named by a hub id: fetched at their commit, kept, and loaded from there."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer.embedded.ports import free_ports
from tests.hub import Hub, serving
from tests.worker.conftest import TINY_MODEL, picture

pytestmark = pytest.mark.slow

NAME, COMMIT = "owner/tiny", "39593d5650112b4cc580433f6b0435385882d819"
PINNED = f"{NAME}@{COMMIT}"


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """Is there if any code of the repository ran."""
    return tmp_path / "it-ran"


@pytest.fixture
def hub(tmp_path: Path, mark: Path) -> Iterator[Hub]:
    """The tiny model, with pickled weights and code beside what is good."""
    with serving(NAME, Path(TINY_MODEL), tmp_path / "repository", COMMIT) as hub:
        (hub.folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"pickled")
        for place in (hub.folder, hub.folder / "unet"):
            (place / "pipeline.py").write_text(f"open({str(mark)!r}, 'w')\n")
        yield hub


def edict(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "producer.cli", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_pinned_model_is_fetched_once_and_runs_without_the_hub_afterwards(
    hub: Hub, tmp_path: Path, mark: Path
):
    # When it is fetched ahead of time
    home = tmp_path / "home"
    done = edict("prefetch", PINNED, "--json", **hub.environment(home))

    # Then it is there at its commit, whole, and nothing of it that is pickled
    assert done.returncode == 0, done.stderr
    [found] = json.loads(done.stdout)
    assert (found["model"], found["revision"]) == (PINNED, COMMIT)
    assert Path(found["folder"]).is_relative_to(home)
    assert {"model_index.json", "unet/diffusion_pytorch_model.safetensors"} <= set(hub.fetched)
    assert [name for name in hub.fetched if name.endswith(".bin")] == []

    # And with the hub away, it runs
    [nowhere] = free_ports(1)
    away = hub.environment(home) | {"HF_ENDPOINT": f"http://127.0.0.1:{nowhere}"}
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "one.png").write_bytes(picture())
    quick = ("--prompt", "a cat", "--steps", "2", "--device", "cpu", "--json")
    done = edict("eval", "reconstruction", str(photos), "--model", PINNED, *quick, **away)
    assert done.returncode == 0, done.stderr
    ran = json.loads(done.stdout)
    assert ran["settings"]["revision"] == COMMIT
    assert {row["method"]: row["exact"] for row in ran["rows"]}["edict"] == 1
    assert not mark.exists()


def test_a_commit_that_the_hub_does_not_have_is_refused_with_the_remedy(hub: Hub, tmp_path: Path):
    done = edict("prefetch", f"{NAME}@{'0' * 40}", **hub.environment(tmp_path / "home"))

    assert done.returncode != 0
    assert "check the name" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_repository_with_a_pipeline_of_its_own_runs_no_code(hub: Hub, tmp_path: Path, mark: Path):
    index = hub.folder / "model_index.json"
    own = {"_class_name": ["pipeline", "Evil"], "unet": ["pipeline", "Evil"]}
    index.write_text(json.dumps(json.loads(index.read_text()) | own))

    done = edict("prefetch", PINNED, **hub.environment(tmp_path / "home"))

    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert not mark.exists()
