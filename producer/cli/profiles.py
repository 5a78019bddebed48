"""Profiles: named sets of settings in one file, so that nobody exports variables by hand.

    [settings]                      # of every profile, and without one
    s3_region = "eu-central-1"

    [profiles.staging]
    database_url = "postgresql://…"

Which value counts, the first that there is: `--profile NAME`, the environment, EDICT_PROFILE's
profile, `[settings]`, the embedded stack. They are put into the environment of this process, so
that processes started by it have them, too.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.errors import InvalidInput

CONFIG = "EDICT_CONFIG"
PROFILE = "EDICT_PROFILE"
FILE = "edict.toml"
_TABLES = ("settings", "profiles")

Variables = dict[str, str]


@dataclass(frozen=True)
class Config:
    """A file of settings, as variables; `path` is None where there is none."""

    path: Path | None = None
    settings: Variables = field(default_factory=dict)
    profiles: Mapping[str, Variables] = field(default_factory=dict)

    def profile(self, name: str) -> Variables:
        """The profile of that name.

        Raises:
            InvalidInput: there is none; names those that there are.
        """
        if name in self.profiles:
            return self.profiles[name]
        if self.path is None:
            raise InvalidInput(
                "profile",
                f"{name!r:.80} is asked for and there is no file of profiles; write one with "
                f"`edict init`, or name it in {CONFIG}",
            )
        there = ", ".join(sorted(self.profiles)) or "none"
        raise InvalidInput(
            "profile", f"there is no {name!r:.80} in {self.path}; there are: {there}"
        )


def apply(chosen: str | None) -> None:
    """Put the settings of the file and of a profile into the environment.

    Raises:
        InvalidInput: the file is named and missing, or damaged, or has no such profile.
    """
    config = read_config()
    given = chosen or os.environ.get(PROFILE)
    profile = config.profile(given) if given else {}
    if chosen:
        os.environ.update(profile)
        os.environ[PROFILE] = chosen
    # A variable that is set to nothing is not set, as `jobs.settings` has it.
    for name, value in (config.settings | profile).items():
        if not os.environ.get(name):
            os.environ[name] = value


def profile_names() -> list[str]:
    """The profiles that may be chosen, for completion: a damaged file has none."""
    try:
        return sorted(read_config().profiles)
    except InvalidInput:
        return []


def read_config() -> Config:
    """The file that EDICT_CONFIG names, else ./edict.toml, else the user's own, else an empty one.

    Raises:
        InvalidInput: it is named and missing, or not of the form above.
    """
    path = _find()
    if path is None:
        return Config()
    found = _parse(path)
    if unknown := [name for name in found if name not in _TABLES]:
        raise _damaged(path, f"has {unknown[0]!r:.80}; there are [settings] and [profiles.NAME]")
    profiles = _table(path, "profiles", found.get("profiles", {}))
    return Config(
        path,
        _variables(path, "settings", found.get("settings", {})),
        {name: _variables(path, f"profiles.{name}", each) for name, each in profiles.items()},
    )


def _find() -> Path | None:
    if named := os.environ.get(CONFIG):
        return Path(named)
    own = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "edict" / FILE
    return next((path for path in (Path(FILE), own) if path.is_file()), None)


def _parse(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidInput("config", f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise _damaged(path, f"is not TOML: {error}") from None


def _table(path: Path, name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _damaged(path, f"{name} is not a table; write [{name}] above its settings")
    return value


def _variables(path: Path, table: str, value: object) -> Variables:
    """The settings of a table as `EDICT_*` variables."""
    values = _table(path, table, value)
    if not values:
        return {}
    # pydantic takes a while to load: only for those who have settings here.
    from jobs.settings import Settings

    if unknown := [name for name in values if name not in Settings.model_fields]:
        raise _damaged(path, f"[{table}] sets {unknown[0]!r:.80}, which is no setting")
    return {f"EDICT_{name.upper()}": _text(path, name, each) for name, each in values.items()}


def _text(path: Path, name: str, value: object) -> str:
    if isinstance(value, list):
        return ",".join(_text(path, name, each) for each in value)
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    # Not the value itself: it may be a part of a password.
    raise _damaged(path, f"{name} is neither a text nor a number nor a list of them")


def _damaged(path: Path, problem: str) -> InvalidInput:
    return InvalidInput("config", f"{path}: {problem}. `edict init` writes a file to start from")
