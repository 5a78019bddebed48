"""`edict completion`: what a shell needs to complete our commands and options."""

import os
import sys
from enum import StrEnum
from typing import Annotated

import typer

from producer.cli.options import examples

EXAMPLES = examples(
    "edict completion bash > ~/.local/share/bash-completion/completions/edict",
    'eval "$(edict completion zsh)"        [dim]in ~/.zshrc, after compinit[/]',
    "edict completion fish > ~/.config/fish/completions/edict.fish",
)
VARIABLE = "_EDICT_COMPLETE"
"""Where the scripts say what they ask; typer derives it from the program's name."""


class Shell(StrEnum):
    """Those that we write for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="The shell.")],
) -> None:
    """Print a script that lets a shell complete commands, options and profiles.

    It asks `edict` itself at each Tab, so it need not be written again for a newer version.
    """
    # It is what typer's documentation points to, though the module has no list of its names.
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    script = get_completion_script(prog_name="edict", complete_var=VARIABLE, shell=shell.value)
    sys.stdout.write(script.strip() + "\n")


def answer_the_shell() -> None:
    """Let typer answer what a script of ours asks, where one does: it is told by a variable."""
    if VARIABLE in os.environ:
        from typer.completion import get_completion_inspect_parameters

        # What it returns are options that we do not have; what it does is to make the shells known.
        get_completion_inspect_parameters()
