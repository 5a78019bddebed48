"""The `edict` commands of a shell block, read as the command line reads them."""

import functools
import re
import shlex
from collections.abc import Iterator
from typing import Any

import typer.main

from producer.cli import app

_COMMAND = re.compile(r"(?:\.venv/bin/|/opt/edict/bin/)?edict$")
_ENDS = {"&&", "||", ";", "|", "&", "(", ")"}


def commands_of(text: str) -> Iterator[list[str]]:
    """The arguments of each `edict` that a shell block calls, those inside of `$(…)` too."""
    plain = re.sub(r"\\\n\s*", " ", text)
    for inner in re.findall(r"\$\((.*?)\)", plain):
        yield from commands_of(inner)
    for line in re.sub(r"\$\(.*?\)", "VALUE", plain).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();&|")
        lexer.whitespace_split = True
        yield from _calls(list(lexer))


def _calls(words: list[str]) -> Iterator[list[str]]:
    call: list[str] | None = None
    for word in [*words, ";"]:
        if word in _ENDS:
            if call is not None:
                yield call
            call = None
        elif call is not None:
            call.append(word)
        elif _COMMAND.match(word):
            call = []


def parse(arguments: list[str]) -> str:
    """Read a command's arguments, types and limits included; returns the command's name.

    Raises:
        click's UsageError: the command line would refuse them.
    """
    command = _command_line()
    names, context = ["edict"], None
    while True:
        context = command.make_context(names[-1], list(arguments), parent=context)
        if not hasattr(command, "resolve_command"):
            return " ".join(names)
        rest = [*context._protected_args, *context.args]
        name, command, arguments = command.resolve_command(context, rest)
        names.append(name)


@functools.cache
def _command_line() -> Any:
    return typer.main.get_command(app)
