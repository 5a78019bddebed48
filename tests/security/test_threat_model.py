"""Every line of the threat model is proved by tests that exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODEL = (ROOT / "docs" / "security.md").read_text()
SUBJECTS = (
    "images", "manifests", "prompts", "webhooks", "sources", "Redis", "model folders",
    "object keys", "stolen worker login", "stolen worker S3 key", "HTTP callers", "tenants", "logs",
)  # fmt: skip


def threats() -> list[list[str]]:
    """The cells of each line of the table."""
    table = MODEL.partition("## Threats")[2].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[1:]]


def names_of_tests() -> set[str]:
    """All tests there are, by name."""
    return {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


def test_every_threat_has_a_remedy_and_a_test_that_exists():
    known = names_of_tests()
    assert len(threats()) > 30

    for line in threats():
        assert len(line) == 4, line
        assert all(line), line
        named = re.findall(r"`(\w+)`", line[3])
        assert named, line
        assert set(named) <= known, sorted(set(named) - known)
        assert re.sub(r"`test_\w+`|, ", "", line[3]) == "", line


def test_every_subject_of_the_model_is_there():
    origins = " ".join(line[0] for line in threats())

    assert [subject for subject in SUBJECTS if subject not in origins] == []
