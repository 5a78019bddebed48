"""Files that are there whole or not at all, whenever the process is killed."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Write to a file beside `path`, which takes its place when all is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.writing")
    yield temporary
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write tensors and a JSON record as one file, so that they can never disagree."""
    whole = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    with replaced(path) as temporary:
        save_file(whole, temporary, metadata={"state": json.dumps(state)})


def checkpoint_state(path: Path) -> dict[str, Any]:
    """Read the JSON record of a checkpoint without its tensors; empty where there is none."""
    if not path.exists():
        return {}
    with safe_open(path, framework="pt") as file:
        state: dict[str, Any] = json.loads(file.metadata()["state"])
        return state


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read what `save_checkpoint` wrote, if anything."""
    if not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return tensors, checkpoint_state(path)
