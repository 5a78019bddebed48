"""Every code block says what it is, and could be run: its commands, options and data are real."""

import ast
import json
from pathlib import Path

import pytest
import yaml

from tests.documents.blocks import LANGUAGES, Block, blocks_of, every_block
from tests.documents.parsing import commands_of, parse

BLOCKS = every_block()
MARKS = {"", "runs beside"}


def of(*languages: str) -> list[pytest.ParameterSet]:
    found = [block for block in BLOCKS if block.language in languages]
    assert found
    return [pytest.param(block, id=block.place) for block in found]


@pytest.mark.parametrize("block", of(*{block.language for block in BLOCKS}))
def test_every_block_says_its_language_and_what_is_special(block: Block):
    assert block.language in LANGUAGES
    assert block.mark in MARKS or block.excuse or block.file
    assert block.language != "yaml" or yaml.safe_load(block.text)


@pytest.mark.parametrize("block", of("bash"))
def test_every_command_is_one_that_the_command_line_takes(block: Block):
    for arguments in commands_of(block.text):
        assert parse(arguments).startswith("edict ")


@pytest.mark.parametrize("block", of("json"))
def test_every_json_block_is_json(block: Block):
    assert json.loads(block.text)


@pytest.mark.parametrize("block", of("python"))
def test_every_python_block_is_python_and_is_run(block: Block):
    assert ast.parse(block.text).body
    assert not block.excuse


def test_most_shell_blocks_are_run():
    shell = [block for block in BLOCKS if block.language == "bash"]

    assert sum(not block.excuse for block in shell) > len(shell) / 2


def test_commands_are_found_in_all_that_a_shell_block_may_hold():
    text = """
KEY=$(edict keys create me --scope read) && .venv/bin/edict status \\
    fruit   # a comment: edict nothing
export A="edict b"; curl http://x/edict | edict doctor
"""
    assert list(commands_of(text)) == [
        ["keys", "create", "me", "--scope", "read"],
        ["status", "fruit"],
        ["doctor"],
    ]


@pytest.mark.parametrize(
    "wrong",
    [["bogus"], ["submit", "edit", "cat.jpg"], ["submit", "--no"], ["bulk", "a", "--steps"]],
)
def test_what_the_command_line_refuses_is_found(wrong: list[str]):
    with pytest.raises(Exception, match=r"[Nn]o such|[Mm]issing|requires"):
        parse(wrong)


def test_marks_are_read_and_lines_counted(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("# A\n\n<!-- not run: no GPU -->\n```bash\nedict up\n```\n\n```text\nx\n```\n")

    first, second = blocks_of(page)

    assert (first.line, first.excuse, first.text) == (4, "no GPU", "edict up\n")
    assert (second.line, second.mark, second.excuse) == (8, "", "")
