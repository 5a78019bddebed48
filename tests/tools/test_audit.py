"""What the audit of dependencies makes of what it is told."""

import os
import sys
from pathlib import Path

import pytest

from tools.audit import FOUND, UNANSWERED, audit, bill, judge

CLEAN = {"name": "celery", "version": "5.7.0", "vulns": []}
HOLED = {
    "name": "pillow",
    "version": "1.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"], "aliases": ["CVE-1"]}],
}
UNKNOWN = {"name": "edict", "skip_reason": "Dependency not found on PyPI"}


def test_packages_without_a_hole_pass():
    verdict = judge({"dependencies": [CLEAN]}, "pypi")

    assert verdict.status == os.EX_OK
    assert verdict.lines == ["audit: 0 known vulnerabilities in 1 of 1 packages"]


def test_a_hole_is_named_with_the_version_that_has_it_no_more():
    verdict = judge({"dependencies": [CLEAN, HOLED, UNKNOWN]}, "pypi")

    assert verdict.status == FOUND
    assert "  pillow 1.0: PYSEC-1, CVE-1; mended in 1.1" in verdict.lines


@pytest.mark.parametrize("packages", [[], [UNKNOWN], [CLEAN, UNKNOWN]])
def test_what_was_not_answered_does_not_pass(packages: list[dict[str, object]]):
    verdict = judge({"dependencies": packages}, "pypi")

    assert verdict.status == UNANSWERED


def program(folder: Path, text: str) -> Path:
    """A stand-in for a tool that ends before it has anything to report."""
    path = folder / "tool"
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o700)
    return path


@pytest.mark.parametrize(
    ("said", "status", "words"),
    [
        ("requests.exceptions.ConnectionError: no such host", UNANSWERED, "does not answer"),
        ("usage: pip-audit: no such option", FOUND, "pip-audit failed"),
    ],
)
def test_a_service_that_is_away_is_told_from_a_tool_that_is_broken(
    tmp_path: Path, said: str, status: int, words: str
):
    tool = program(tmp_path, f"import sys; sys.exit({said!r})")

    verdict = audit(tool, tmp_path / "constraints.txt", "pypi")

    assert verdict.status == status
    assert words in verdict.lines[0]
    assert said in verdict.lines[0]


def test_a_bill_that_cannot_be_written_is_said(tmp_path: Path):
    verdict = bill(program(tmp_path, "raise SystemExit('no room')"), Path("python"), tmp_path)

    assert verdict.status == FOUND
    assert "no room" in verdict.lines[0]
