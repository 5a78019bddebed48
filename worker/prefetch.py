"""Weights ahead of time: into the cache, before a worker is to load them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edict_engine.checkpoint import find_checkpoint
from edict_engine.errors import EngineError, ModelUnreachable
from edict_engine.lora import find_adapters
from jobs.errors import ConfigurationError, ServiceUnavailable
from worker.models import sources_of


@dataclass(frozen=True)
class Fetched:
    """A model that a worker of this machine can load without the network."""

    model: str
    revision: str
    folder: Path


def prefetch(models: tuple[str, ...]) -> Iterator[Fetched]:
    """Bring each model and its adapters here, one after the other; folders are checked only.

    Raises:
        ConfigurationError: a name is none, or a model is not there or none that the engine runs.
        ServiceUnavailable: the hub cannot be reached.
    """
    for model in models:
        try:
            yield _fetch(model)
        except ValueError as error:
            raise ConfigurationError(f"the model {model!r} {error}") from None
        except ModelUnreachable as error:
            raise ServiceUnavailable(str(error)) from None
        except EngineError as error:
            raise ConfigurationError(str(error)) from None


def _fetch(model: str) -> Fetched:
    named = sources_of(model)
    found = find_checkpoint(named.source, revision=named.revision)
    find_adapters(named.adapters)
    return Fetched(model, found.revision, found.folder)
