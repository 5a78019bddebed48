"""DDIM and its approximate inversion: the baseline that EDICT is compared with.

Generation is the step of ``schedule``. To invert it, the noise of the level above would be needed
to get there; DDIM inversion takes that of the level below instead, at
the timestep of the level above:

    generate:  z ← z + (s_next - s_t) · ε(a_t · z, t)
    invert:    z ← z - (s_next - s_t) · ε(a_next · z, t)

The two are not each other's inverse, so the round trip has an error. There is one latent; both
members of the pair hold it.
"""

from collections.abc import Sequence

from edict_engine.fixed_point import LatentPair, quantise, to_float
from edict_engine.parameters import SamplerParameters
from edict_engine.samplers.base import AfterStep, Coroutine, Query, Sampler, keep
from edict_engine.schedule import Step


def generate(
    pair: LatentPair, grid: Sequence[Step], _: SamplerParameters, after_step: AfterStep = keep
) -> Coroutine[LatentPair]:
    """From noise to image."""
    z = pair.x
    for step in grid:
        noise = yield Query(step.scale_from * to_float(z), step.timestep, step.position)
        z = z + quantise(step.delta * noise)
        z = after_step(step.position, LatentPair(z, z)).x
    return LatentPair(z, z)


def invert(
    pair: LatentPair, grid: Sequence[Step], _: SamplerParameters, before_step: AfterStep = keep
) -> Coroutine[LatentPair]:
    """From image to (nearly) noise."""
    z = pair.x
    for step in reversed(grid):
        z = before_step(step.position, LatentPair(z, z)).x
        noise = yield Query(step.scale_to * to_float(z), step.timestep, step.position)
        z = z - quantise(step.delta * noise)
    return LatentPair(z, z)


DDIM = Sampler("ddim", calls_per_step=1, exact=False, invert=invert, generate=generate)
