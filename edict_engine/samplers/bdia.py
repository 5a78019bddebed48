"""BDIA: bi-directional integration approximation (Zhang et al., 2023, arXiv 2307.10829).

BDIA goes from level i to i-1 by the integral over [t_{i+1}, t_i] that was already taken, once more
and from the other side, plus the one over [t_i, t_{i-1}]. With Δ for the DDIM update, both from
z_i and so with one call of the network:

    z_{i-1} = z_i + γ · (z_{i+1} - z_i - Δ(t_i → t_{i+1} | z_i)) + Δ(t_i → t_{i-1} | z_i)

In the chart of ``schedule``, Δ(t_i → t_j | z_i) is (s_j - s_i) · ε(a_i · z_i, t_i), which makes it
the step of ``multistep`` with the weight γ at every level: bit-exact for every γ in its domain.

================  ===================  =============================================
paper             here                 meaning
================  ===================  =============================================
γ                 gamma                weight of the level before (0 would be DDIM)
z_i, z_{i+1}      LatentPair.x, .y     this level and the noisier one before it
Δ(t_i → t_{i-1})  Step.delta · noise   the DDIM update
================  ===================  =============================================

The paper takes z to be the latent x_t itself, where the weight γ is γ · a_{i+1} / a_{i-1} of the
chart. Here the rule is applied in the chart, with the weight γ itself. The parasitic solution that
every method over two levels has then grows by 1/γ a step while inverting; with the paper's weight
it would gain, over the whole grid, another factor of about 1/a_t².
"""

from collections.abc import Sequence

from edict_engine.fixed_point import LatentPair
from edict_engine.parameters import SamplerParameters
from edict_engine.samplers import multistep
from edict_engine.samplers.base import AfterStep, Coroutine, Sampler, keep
from edict_engine.schedule import Step


def generate(
    pair: LatentPair,
    grid: Sequence[Step],
    parameters: SamplerParameters,
    after_step: AfterStep = keep,
) -> Coroutine[LatentPair]:
    """From noise to image."""
    weights = [parameters.gamma_ratio] * len(grid)
    return multistep.generate(pair, grid, weights, after_step)


def invert(
    pair: LatentPair,
    grid: Sequence[Step],
    parameters: SamplerParameters,
    before_step: AfterStep = keep,
) -> Coroutine[LatentPair]:
    """From image to noise."""
    weights = [parameters.gamma_ratio] * len(grid)
    return multistep.invert(pair, grid, weights, before_step)


BDIA = Sampler("bdia", calls_per_step=1, exact=True, invert=invert, generate=generate)
