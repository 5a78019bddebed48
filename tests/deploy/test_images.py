"""What the control image holds: made here as its Dockerfile makes it, less the base image."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "images" / "control.Dockerfile"
MAX_BYTES = 500 * 2**20
"""torch alone would be more."""
IMPORT_ALL = """
import importlib, pkgutil, jobs, producer
assert "/site-packages/" in jobs.__file__
for top in jobs, producer:
    for module in pkgutil.walk_packages(top.__path__, f"{top.__name__}."):
        # The client over HTTP is for other machines: an extra that the image has not.
        if not module.name.startswith("producer.remote") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""

pytestmark = pytest.mark.slow


def copied(folder: Path) -> Path:
    """What the build gets of the checkout: the files that `.dockerignore` lets in."""
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            given, place = ROOT / line[1:], folder / line[1:]
            if given.is_dir():
                shutil.copytree(given, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(given, place)
    return folder


def built(folder: Path) -> dict[str, str]:
    """The digest of each file of the environment that the Dockerfile makes; always in one place."""
    shutil.rmtree(folder, ignore_errors=True)
    source, environment = copied(folder / "src"), folder / "edict"
    text = DOCKERFILE.read_text().replace("/src", str(source)).replace("\\\n", " ")
    [variables] = re.findall(r"^ENV (PIP_.*)$", text, re.MULTILINE)
    [wanted] = re.findall(r"pip install (.*)$", text, re.MULTILINE)
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "-q", *shlex.split(wanted)],
        cwd=source,
        env=os.environ | dict(each.split("=", 1) for each in variables.split()),
        check=True,
    )
    return {
        str(path.relative_to(environment)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in environment.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder that the image is made in, and its files."""
    folder = tmp_path_factory.mktemp("image")
    return folder, built(folder)


def test_the_same_checkout_makes_the_same_files_and_no_torch_among_them(
    image: tuple[Path, dict[str, str]],
):
    folder, first = image
    assert "bin/edict" in first
    assert not [name for name in first if "/site-packages/torch/" in name]
    files = (path for path in (folder / "edict").rglob("*") if path.is_file())
    assert sum(path.stat().st_size for path in files) < MAX_BYTES

    again = built(folder)

    assert {
        name for name in first.keys() | again.keys() if first.get(name) != again.get(name)
    } == set()


def test_the_image_has_all_that_its_programs_import(image: tuple[Path, dict[str, str]]):
    folder, _ = image

    done = subprocess.run(
        [folder / "edict" / "bin" / "python", "-c", IMPORT_ALL],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
