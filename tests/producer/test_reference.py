"""The page about the command line, its exit statuses and its completion are what it is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from producer.cli import app
from producer.cli.exits import Exit
from producer.cli.reference import commands, reference
from tests.producer.conftest import Edict

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "cli.md"


def test_the_page_is_what_the_command_line_generates():
    remedy = "run: python -m producer.cli.reference > docs/cli.md"
    assert PAGE.read_text() == reference(), remedy


def test_the_page_has_every_command_and_option():
    text = PAGE.read_text()
    found = list(commands(typer.main.get_command(app)))
    assert len(found) > 40
    for path, command in found:
        _, _, section = text.partition(f"\n## {path}\n")
        section = section.partition("\n## ")[0]
        assert section, path
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert parameter.opts[0] in section, f"{path} {parameter.opts[0]}"


def test_the_page_says_each_exit_status_once():
    text = PAGE.read_text()
    assert [text.count(f"\n| {each.value} | ") for each in Exit] == [1] * len(Exit)
    assert {each.value for each in Exit} == {0, 1, 2, 130}


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["--version"], Exit.DONE),
        (["completion", "bash"], Exit.DONE),
        ([], Exit.USAGE),
        (["bogus"], Exit.USAGE),
        (["batches", "--limit", "0"], Exit.USAGE),
        (["job", "no-id"], Exit.USAGE),
        (["completion", "csh"], Exit.USAGE),
        (["reproduce", "missing.png"], Exit.USAGE),
        (["--profile", "none", "batches"], Exit.USAGE),
        (["batches"], Exit.FAILED),
        (["open", "--url", "http://127.0.0.1:1"], Exit.FAILED),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else given.name,
)
def test_statuses_mean_what_the_page_says(edict: Edict, command: list[str], status: Exit):
    shown = edict(*command)
    assert shown.exit_code == status, shown.output
    assert "Traceback" not in shown.output


@pytest.fixture
def on_path(tmp_path: Path) -> dict[str, str]:
    """An environment in which `edict` is this version of it."""
    binary = tmp_path / "bin" / "edict"
    binary.parent.mkdir()
    binary.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m producer.cli "$@"\n')
    binary.chmod(0o755)
    path = f"{binary.parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EDICT_")}
    return {**kept, "PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}


BASH = """
eval "$(edict completion bash)"
COMP_WORDS=({words}); COMP_CWORD={last}; COMP_LINE="{line}"; COMP_POINT=${{#COMP_LINE}}
_edict_completion edict; printf '%s\\n' "${{COMPREPLY[@]}}"
"""
ZSH = """
autoload -U compinit; compinit -u -d "$HOME/.zcompdump"
eval "$(edict completion zsh)"
[[ $_comps[edict] == _edict_completion ]] || exit 9
words=({words}); CURRENT={last_in_zsh}
_arguments() {{ print -r -- "$@"; }}
_edict_completion
"""
FISH = "edict completion fish | source; complete --do-complete '{line}'"
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


@pytest.mark.slow
@pytest.mark.parametrize("shell", SCRIPTS)
@pytest.mark.parametrize(
    ("line", "offered", "not_offered"),
    [
        ("edict ret", {"retry", "retention"}, {"resume", "submit"}),
        ("edict submit edit --st", {"--steps", "--strength"}, {"--to"}),
        ("edict --profile st", {"staging"}, {"production"}),
    ],
)
def test_a_shell_completes(
    shell: str,
    line: str,
    offered: set[str],
    not_offered: set[str],
    on_path: dict[str, str],
    tmp_path: Path,
):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine: install it to test its completion")
    (tmp_path / "edict.toml").write_text("[profiles.staging]\n[profiles.production]\n")
    words = line.split()
    script = SCRIPTS[shell].format(
        words=" ".join(words), line=line, last=len(words) - 1, last_in_zsh=len(words)
    )
    run = {"zsh": ["zsh", "-f", "-c"]}.get(shell, [shell, "-c"])

    done = subprocess.run(
        [*run, script], env=on_path, cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    words_offered = set(done.stdout.replace('"', " ").replace("(", " ").split())
    words_offered |= {word.partition(":")[0] for word in words_offered}
    assert offered <= words_offered, done.stdout
    assert not not_offered & words_offered
