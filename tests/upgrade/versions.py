"""Two versions of the program: this one, and one that does not know the newest revision.

The version before comes from the history of the checkout, and runs in our environment: what tells
them apart is the code that Python finds first.
"""

import io
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs.processes import Child
from tests.faults.deployment import Deployment
from tests.migrations.statements import revisions
from tests.pipeline import environment_of

ROOT = Path(__file__).parents[2]
PACKAGES = ("edict_engine", "jobs", "migrations", "producer", "worker")


@dataclass(frozen=True)
class Version:
    """The code of a version, and the newest revision that it knows."""

    name: str
    tree: Path
    revision: str

    def environment(self, deployment: Deployment) -> dict[str, str]:
        """The variables of a process of this version; none is found in its current folder."""
        code = {"PYTHONPATH": str(self.tree), "PYTHONSAFEPATH": "1"}
        return {**os.environ, **environment_of(deployment.settings), **code}

    def process(self, deployment: Deployment, *arguments: str) -> Child:
        """`edict …` that goes on until it is stopped."""
        name = f"{self.name}-{arguments[0]}"
        return Child(
            name,
            [sys.executable, "-m", "producer.cli", *arguments],
            environment=self.environment(deployment),
            log=deployment.folder / f"{name}.log",
        )

    def run(self, deployment: Deployment, *arguments: object, status: int = 0) -> str:
        """What `edict …` prints, once it has ended with that status."""
        done = subprocess.run(
            [sys.executable, "-m", "producer.cli", *map(str, arguments)],
            env={**self.environment(deployment), "COLUMNS": "500"},
            cwd=deployment.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr


def this_version() -> Version:
    return Version("new", ROOT, revisions()[-1])


def version_before(folder: Path) -> Version:
    """The commit before the one that added the newest revision, unpacked into `folder`."""
    *_, before, newest = revisions()
    [file] = (ROOT / "migrations" / "versions").glob(f"{newest}_*.py")
    # Under any number: on its branch it may have had another.
    added = f":(glob)migrations/versions/*{file.name.removeprefix(newest)}"
    commits = _git("log", "--diff-filter=A", "--format=%H", "--", added).split()
    if not commits:
        pytest.skip(f"no history that says when revision {newest} came: not a whole git clone")
    commit = f"{commits[-1].decode()}^"
    if not _git("rev-parse", "--verify", "--quiet", commit):
        pytest.skip(f"the history ends before {commit}: a shallow clone (git fetch --unshallow)")
    with tarfile.open(fileobj=io.BytesIO(_git("archive", commit, "--", *PACKAGES))) as archive:
        archive.extractall(folder, filter="data")
    known = sorted(path.name for path in (folder / "migrations" / "versions").glob("[0-9]*.py"))
    assert known[-1].startswith(f"{before}_"), known
    return Version("old", folder, before)


def _git(*arguments: str) -> bytes:
    """What git prints; nothing where it fails, or is not there."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)  # noqa: S607
    except FileNotFoundError:
        return b""
    return done.stdout if done.returncode == 0 else b""
