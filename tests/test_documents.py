"""What the documents and deployment files name exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.settings import Settings

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "Makefile",
    *sorted((ROOT / "deploy").rglob("*.*")),
]
READ_BY_USERS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "deploy").rglob("*.md")),
]
PACKAGES = ("bench", "edict_engine", "jobs", "migrations", "producer", "tools", "worker")
NAMING = [
    *DOCUMENTS,
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / ".ci").iterdir()),
    *(path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))),
]
"""Where variables are named; messages and comments of the code included."""
SETTINGS = {f"EDICT_{name.upper()}" for name in Settings.model_fields}
OUTSIDE_OF_SETTINGS = {"EDICT_DIE_WITH_PARENT", "EDICT_PROFILE", "EDICT_CONFIG"}
"""Read by the command line itself, before there are settings."""


def text_of(path: Path) -> str:
    return path.read_text()


def variables_of(path: Path) -> set[str]:
    """Names in full: one that ends in `_` is the beginning of several."""
    return set(re.findall(r"\bEDICT_(?!TEST_)[A-Z0-9_]*[A-Z0-9]\b", text_of(path)))


def test_every_variable_that_is_named_is_a_setting():
    wrong = {
        str(path.relative_to(ROOT)): unknown
        for path in NAMING
        if (unknown := variables_of(path) - SETTINGS - OUTSIDE_OF_SETTINGS)
    }
    named = set().union(*map(variables_of, NAMING))

    assert not wrong
    assert named > OUTSIDE_OF_SETTINGS


def test_every_setting_is_documented():
    documented = set().union(*map(variables_of, READ_BY_USERS))

    assert documented >= SETTINGS
    rows = re.findall(r"^\| `(EDICT_\w+)` \|", text_of(ROOT / "docs" / "settings.md"), re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert set(rows) <= SETTINGS


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_that_is_named_is_a_command(path: Path):
    uses = re.findall(r"(?:bin/edict|^edict|`edict) ([a-z]+)", text_of(path), re.MULTILINE)

    help_text = subprocess.run(
        [sys.executable, "-m", "producer.cli", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout
    for use in set(uses):
        assert re.search(rf"│ {use}\b", help_text), f"edict {use}"


def test_every_file_that_the_readme_links_to_is_there():
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", text_of(ROOT / "README.md"))

    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_no_figure_is_left_out():
    assert not re.findall(r"@[A-Z_]+@", text_of(ROOT / "README.md"))


def test_the_readmes_make_targets_exist():
    targets = set(re.findall(r"^make ([a-z]+)", text_of(ROOT / "README.md"), re.MULTILINE))

    makefile = text_of(ROOT / "Makefile")
    assert targets >= {"demo", "test"}
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
