"""The real processes of the pipeline, as tests start, watch and kill them."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import SecretStr

from jobs.processes import Child
from jobs.settings import Settings

T = TypeVar("T")


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that give a process these settings."""
    values = settings.model_dump(exclude_unset=True, exclude_none=True)
    return {f"EDICT_{name.upper()}": _text(value) for name, value in values.items()}


def _text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def edict(name: str, *arguments: str, environment: Mapping[str, str], log: Path) -> Child:
    """A running `edict NAME …`."""
    command = [sys.executable, "-m", "producer.cli", name, *arguments]
    return Child(name, command, environment={**os.environ, **environment}, log=log)


def eventually(look: Callable[[], T], *, seconds: float = 240.0) -> T:
    """Wait until `look` gives something true, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"nothing came of {look} in {seconds:g} s"
        time.sleep(0.05)
    return found


def is_alive(pid: int) -> bool:
    """Whether a process of that id runs (a zombie does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
