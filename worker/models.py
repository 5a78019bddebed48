"""Models by the names that jobs and people give them (see `jobs.model_names`)."""

from dataclasses import dataclass

from edict_engine.lora import Adapter
from jobs.model_names import split_name


@dataclass(frozen=True)
class Sources:
    """What the engine is to load."""

    source: str
    revision: str | None
    adapters: tuple[Adapter, ...]


def sources_of(name: str) -> Sources:
    """Take a model's name apart. Raises `ValueError`, with the remedy, if it is none."""
    parts = split_name(name)
    adapters = (Adapter(each.source, each.scale, each.revision) for each in parts.adapters)
    return Sources(parts.source, parts.revision, tuple(adapters))
