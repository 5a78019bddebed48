"""O-BELM: the optimal bidirectional explicit linear multi-step sampler (Wang et al., 2024,
arXiv 2410.07273).

Of all explicit steps over two levels, the one with the least local truncation error. In the
paper's variable x/α, the z of ``schedule``, and with the step sizes h_i = s_i - s_{i-1} and their
ratio r_i = h_i / h_{i+1}:

    z_{i-1} = r_i² · z_{i+1} + (1 - r_i²) · z_i - h_i · (1 + r_i) · ε(a_i · z_i, t_i)

That is the step of ``multistep`` with the weight r_i², since
``c_i = -(r_i² · h_{i+1} + h_i) = -h_i · (1 + r_i)``. The weight is rounded to a fraction whose
parts are at most 10 000, and c_i is computed from the fraction, so that a constant ε is still
integrated exactly.

================  ====================  ==============================================
paper             here                  meaning
================  ====================  ==============================================
h_i               -Step.delta           step size
h_i² / h_{i+1}²   weight                what the level before counts
x̄_i, x̄_{i+1}      LatentPair.x, .y      this level and the noisier one before it
================  ====================  ==============================================

*What holds.* Where every r_i is at most 1, the round trip is bit-exact. The usual grid has r_i > 1
near timestep 0, where generation is an expansion and inversion loses half a unit of ``2**-32``.
What that grows to on the way back depends on the network: 1e-5 in latent units for 50 steps of the
shipped model. The sampler does not claim to be exact.

*Steps of no size.* Where h_i or h_{i+1} is 0, as at both ends of the grid, r_i says nothing and the
weight is 1: with ``h_{i+1} = 0`` a DDIM step, with ``h_i = 0`` one that goes back over h_{i+1}. So
the last step adds nothing to the image, z_1; what it makes is the image once more, from z_2, and is
equal to it on a round trip. It serves inversion, which needs two latents of an image to start from.
"""

from collections.abc import Sequence
from fractions import Fraction

from edict_engine.fixed_point import LatentPair
from edict_engine.parameters import RATIO_DENOMINATOR, SamplerParameters
from edict_engine.samplers import multistep
from edict_engine.samplers.base import AfterStep, Coroutine, Sampler, keep
from edict_engine.schedule import Step


def generate(
    pair: LatentPair, grid: Sequence[Step], _: SamplerParameters, after_step: AfterStep = keep
) -> Coroutine[LatentPair]:
    """From noise to image."""
    pair = yield from multistep.generate(pair, grid, weights(grid), after_step)
    return _exchange_image(pair, grid)


def invert(
    pair: LatentPair, grid: Sequence[Step], _: SamplerParameters, before_step: AfterStep = keep
) -> Coroutine[LatentPair]:
    """From image to noise."""
    pair = _exchange_image(pair, grid)
    return (yield from multistep.invert(pair, grid, weights(grid), before_step))


def weights(grid: Sequence[Step]) -> list[Fraction]:
    """Return r_i² for each step."""
    above = multistep.deltas_above(grid)
    return [_squared_ratio(step.delta, delta) for step, delta in zip(grid, above, strict=True)]


def _squared_ratio(delta: float, delta_above: float) -> Fraction:
    if delta == 0 or delta_above == 0:
        return Fraction(1)
    if abs(delta) > abs(delta_above):
        return 1 / _squared_ratio(delta_above, delta)
    square = Fraction((delta / delta_above) ** 2).limit_denominator(RATIO_DENOMINATOR)
    return max(square, Fraction(1, RATIO_DENOMINATOR))


def _exchange_image(pair: LatentPair, grid: Sequence[Step]) -> LatentPair:
    """Let x be z_1 where a last step of no size has made it y."""
    return LatentPair(pair.y, pair.x) if grid[-1].delta == 0 else pair


OBELM = Sampler("o-belm", calls_per_step=1, exact=False, invert=invert, generate=generate)
