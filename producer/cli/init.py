"""`edict init`: a file of all settings, each explained and none of them set.

As TOML it is what commands read by themselves (see `producer.cli.profiles`); as variables it is for
shells, systemd and containers.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from producer.cli.options import Json, examples
from producer.cli.output import out, say
from producer.cli.profiles import FILE

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobs.settings import Settings

EXAMPLES = examples(
    "edict init && $EDITOR edict.toml",
    "edict --profile production doctor    [dim]with the settings of that profile[/]",
    "edict init edict.env && $EDITOR edict.env      [dim]as variables, for systemd[/]",
)
PROFILE = "production"
"""The one that the file shows how to write."""


def init(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Must not exist yet. .toml has profiles, .env not."),
    ] = Path(FILE),
    json: Json = False,
) -> None:
    """Write a commented file of all settings: with profiles, or as variables.

    Every setting is a comment: take out the # of those that you set. edict.toml is found in the
    current folder and in ~/.config/edict, or where EDICT_CONFIG says. The file is yours to read
    only, as passwords come into it.
    """
    from jobs.errors import InvalidInput
    from jobs.settings import Settings

    writers = {".toml": _as_toml, ".env": _as_variables}
    if file.suffix not in writers:
        raise InvalidInput("file", f"{file} ends in neither {' nor '.join(writers)}")
    try:
        with open(file, "x", encoding="utf-8", opener=_private) as stream:
            stream.write(writers[file.suffix](Settings))
    except FileExistsError:
        raise InvalidInput("file", f"{file} is there already; name another") from None
    except OSError as error:
        raise InvalidInput("file", f"{file} cannot be written: {error.strerror}") from None
    if json:
        out.print_json(data={"file": str(file)})
    else:
        say(f"wrote {escape(str(file))}; set what is needed, then run edict doctor")


def _private(path: str, flags: int) -> int:
    import os

    return os.open(path, flags, 0o600)


def _as_variables(settings: "type[Settings]") -> str:
    """The file for shells: for each setting what it is for, and its default."""
    head = "# Settings of edict. What is not set here has the value that is shown."
    lines = _lines(settings, lambda name, default: f"EDICT_{name.upper()}={_shell(default)}")
    return "\n".join([head, *lines]) + "\n"


def _as_toml(settings: "type[Settings]") -> str:
    """The file that commands read: the same, with a profile as an example."""
    head = [
        "# Settings of edict. What is not set here has the value that is shown; variables of the",
        "# environment go before this file.",
        "",
        "[settings]",
    ]
    profile = [
        "",
        "# A profile is chosen by `edict --profile NAME` or EDICT_PROFILE, and sets any of these",
        "# instead. There may be several.",
        f"[profiles.{PROFILE}]",
        '#database_url = "postgresql://edict@db.example.org/edict"',
        '#s3_bucket = "edict"',
    ]
    lines = _lines(settings, lambda name, default: f"{name} = {_toml(default)}")
    return "\n".join([*head, *lines, *profile]) + "\n"


def _lines(settings: "type[Settings]", line: "Callable[[str, object], str]") -> list[str]:
    """Each setting commented out, under what it is for."""
    from textwrap import wrap

    explained = _explanations(settings)
    lines: list[str] = []
    for name, field in settings.model_fields.items():
        lines.append("")
        lines += [f"# {part}" for part in wrap(explained.get(name, ""), 96)]
        lines.append(f"#{line(name, field.default)}")
    return lines


def _shell(default: object) -> str:
    from shlex import quote

    return ",".join(map(str, default)) if isinstance(default, tuple) else quote(_plain(default))


def _toml(default: object) -> str:
    from json import dumps

    if isinstance(default, tuple):
        return dumps(list(default))
    if isinstance(default, int | float):
        return str(default)
    # Texts in JSON are texts in TOML.
    return dumps(_plain(default), ensure_ascii=False)


def _plain(default: object) -> str:
    from pydantic import SecretStr

    return "" if default is None or isinstance(default, SecretStr) else str(default)


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
