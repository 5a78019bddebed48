"""The samplers, by name. To add one, write a module like ``edict`` and list it here."""

from edict_engine.errors import ParameterError
from edict_engine.samplers.base import AfterStep, Coroutine, Query, Sampler, keep
from edict_engine.samplers.bdia import BDIA
from edict_engine.samplers.ddim import DDIM
from edict_engine.samplers.edict import EDICT
from edict_engine.samplers.obelm import OBELM
from edict_engine.samplers.sdedit import SDEDIT

SAMPLERS: dict[str, Sampler] = {
    sampler.name: sampler for sampler in (EDICT, DDIM, BDIA, OBELM, SDEDIT)
}


def get_sampler(name: str) -> Sampler:
    """Return the sampler called ``name``; raise ``ParameterError`` with the choices if none is."""
    try:
        return SAMPLERS[name]
    except KeyError:
        raise ParameterError(f"sampler is {name!r}: choose one of {sorted(SAMPLERS)}") from None


__all__ = ["SAMPLERS", "AfterStep", "Coroutine", "Query", "Sampler", "get_sampler", "keep"]
