"""`edict init`: a file of all settings, each explained and none of them set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from producer.cli.options import examples
from producer.cli.output import say

if TYPE_CHECKING:
    from jobs.settings import Settings

EXAMPLES = examples(
    "edict init && $EDITOR edict.env",
    "set -a; . ./edict.env; set +a; edict doctor",
)


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Must not exist yet.")] = Path(
        "edict.env"
    ),
) -> None:
    """Write a commented file of all settings, for shells, systemd and containers.

    Every line is a comment: take out the # of those that you set. The file is yours to read only,
    as passwords come into it.
    """
    from jobs.errors import InvalidInput
    from jobs.settings import Settings

    try:
        with open(file, "x", encoding="utf-8", opener=_private) as stream:
            stream.write(_text(Settings))
    except FileExistsError:
        raise InvalidInput("file", f"{file} is there already; name another") from None
    except OSError as error:
        raise InvalidInput("file", f"{file} cannot be written: {error.strerror}") from None
    say(f"wrote {escape(str(file))}; set what is needed, then run edict doctor")


def _private(path: str, flags: int) -> int:
    import os

    return os.open(path, flags, 0o600)


def _text(settings: "type[Settings]") -> str:
    """The file: for each setting what it is for, and its default."""
    from textwrap import wrap

    explained = _explanations(settings)
    lines = ["# Settings of edict. What is not set here has the value that is shown."]
    for name, field in settings.model_fields.items():
        lines.append("")
        lines += [f"# {line}" for line in wrap(explained.get(name, ""), 96)]
        lines.append(f"#EDICT_{name.upper()}={_value(field.default)}")
    return "\n".join(lines) + "\n"


def _value(default: object) -> str:
    from shlex import quote

    from pydantic import SecretStr

    if default is None or isinstance(default, SecretStr):
        return ""
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return quote(str(default))


def _explanations(settings: "type[Settings]") -> dict[str, str]:
    """The texts that stand below the fields in their class."""
    import ast
    import inspect
    from itertools import pairwise
    from textwrap import dedent

    [definition] = ast.parse(dedent(inspect.getsource(settings))).body
    assert isinstance(definition, ast.ClassDef)  # noqa: S101 - the source of a class is one
    found: dict[str, str] = {}
    for field, text in pairwise(definition.body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            found[field.target.id] = " ".join(str(text.value.value).split())
    return found
