"""The reference of the command line, docs/cli.md, from the command line itself.

python -m producer.cli.reference > docs/cli.md
"""

import re
from collections.abc import Iterator
from typing import Any

import typer
from rich.text import Text
from typer.core import TyperGroup

from producer.cli.app import app
from producer.cli.exits import Exit

HEAD = """# Command line

This page is generated: `python -m producer.cli.reference > docs/cli.md`. `edict COMMAND --help`
says the same, command by command.

## Everywhere

* Data goes to standard output; all else, progress and errors too, to standard error. On a terminal
  progress is a live line, elsewhere a plain line now and then. `NO_COLOR` is honoured.
* `--json` prints data as JSON: one document, or one a line where the command says so.
* Settings come from `--profile NAME`, then the environment (`EDICT_*`), then the profile that
  `EDICT_PROFILE` names, then `[settings]` of `edict.toml`, then an embedded stack (`edict up`) in
  the current folder. `edict init` writes the file, each setting explained.
* `edict completion bash|zsh|fish` prints a script with which the shell completes all of this.

## Exit statuses

| status | means |
|---|---|
"""


def reference() -> str:
    """The page, in Markdown."""
    root = typer.main.get_command(app)
    statuses = "".join(f"| {each.value} | {each.meaning} |\n" for each in Exit)
    return HEAD + statuses + "".join(_section(path, each) for path, each in commands(root))


def commands(command: Any, path: str = "edict") -> Iterator[tuple[str, Any]]:
    """Every command with its full name, in the order of the help; groups before what is in them."""
    yield path, command
    if isinstance(command, TyperGroup):
        for name in command.list_commands(_context(command, path)):
            yield from commands(command.commands[name], f"{path} {name}")


def _section(path: str, command: Any) -> str:
    context = _context(command, path)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    parts = [f"\n## {path}\n", _paragraphs(command.help), f"\n```\n{usage}\n```\n"]
    shown = [each for each in command.get_params(context) if each.name != "help"]
    if rows := [_row(each, context) for each in shown if not each.hidden]:
        parts.append("\n| | |\n|---|---|\n" + "".join(rows))
    if examples := _examples(command.epilog):
        parts.append(f"\n```\n{examples}\n```\n")
    return "".join(parts)


def _context(command: Any, path: str) -> Any:
    return command.make_context(path, [], resilient_parsing=True)


def _paragraphs(text: str | None) -> str:
    """Lines as they are in the source, without markup."""
    return "".join(f"{line}\n".lstrip(" ") for line in _plain(text or "").strip().split("\n"))


def _row(parameter: Any, context: Any) -> str:
    """What typer's own help says of a parameter: how it is written, and what for."""
    written, says = parameter.get_help_record(context)
    told = parameter.help or ""
    # Only the help itself is markup: "[default: 50]" is meant as it stands.
    says = _plain(told) + says.removeprefix(told)
    return f"| `{_cell(_type_as_name(written, parameter))}` | {_cell(says)} |\n"


def _type_as_name(written: str, parameter: Any) -> str:
    """`--steps <int range>` as `--steps INT`; what follows an argument's own name is left out."""
    name = r"" if parameter.param_type_name == "argument" else r" \1"
    return re.sub(r" <(\w+).*>$", lambda found: found.expand(name).upper(), written)


def _examples(epilog: str | None) -> str:
    lines = _plain(epilog or "").split("\n")
    return "\n".join(line.strip() for line in lines[1:] if line.strip())


def _plain(text: str) -> str:
    return Text.from_markup(text).plain.replace("\b", "")


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


if __name__ == "__main__":
    typer.echo(reference(), nl=False)
