"""The explicit step over two levels that BDIA and O-BELM have in common.

From the latents at levels i+1 and i to that at the next cleaner one, i-1, in the chart of
``schedule``, with the weight w_i of the sampler at hand:

    z_{i-1} = z_i + w_i · (z_{i+1} - z_i) + c_i · ε(a_i · z_i, t_i)
    c_i     = w_i · (s_i - s_{i+1}) + (s_{i-1} - s_i)

c_i is such that a constant ε is integrated exactly; ``w_i = 0`` is DDIM. Only z_i is asked about,
and ``invert`` asks the same, so it can solve for z_{i+1}:

    z_{i+1} = z_i + (z_{i-1} - z_i - c_i · ε(a_i · z_i, t_i)) / w_i

The pair holds two levels, x the cleaner one.

*Both ends.* No level is above the first: there, ``s_{i+1} = s_i``, and z_{i+1} is a second latent
of that same level. If both are the same noise, the first step is DDIM's, as in both papers. The
last level is the image's, and so is the one above it (see ``NoiseSchedule.grid``), so an image is
a pair of them, and the first step of an inversion is DDIM's as well.

*Why generation gives back what inversion was given.* On integers, ``generate`` adds
``round(w·d)`` for ``d = z_{i+1} - z_i``, where ``invert`` has set ``d = round(v/w)`` for an integer
``v = z_{i-1} - z_i - quantise(c·ε)``. By the argument in ``fixed_point``, ``w · d`` lies within
``w/2`` of v, so that for ``w ≤ 1`` the sum is z_{i-1} again, to the bit, whatever ε was. For
``w > 1`` it is off by up to ``w/2`` units of ``2**-32``, and such an error then grows or shrinks as
any other.

*Why nothing leaves int64.* w is a fraction n/m with both at most 10 000. What the engine lets pass
has ``|z| ≤ 2**14`` and ``|ε| ≤ 2**10``, and ``s < 2**4`` (see ``fixed_point``), so the differences
of s are below ``2**4``, and ``|v| ≤ 2**15 + (w + 1) · 2**14``. Its product with m is at most
``2**16 · 10 000 < 2**30`` in units of ``2**32``, which leaves a factor of two. In the other
direction ``|d| ≤ 2**15``, or d comes from such a v and is multiplied back.
"""

from collections.abc import Sequence
from fractions import Fraction

from torch import Tensor

from edict_engine.fixed_point import LatentPair, quantise, times, to_float
from edict_engine.samplers.base import AfterStep, Coroutine, Query, keep
from edict_engine.schedule import Step


def generate(
    pair: LatentPair,
    grid: Sequence[Step],
    weights: Sequence[Fraction],
    after_step: AfterStep = keep,
) -> Coroutine[LatentPair]:
    """From noise to image, with one of ``weights`` for each step."""
    for step, weight, addition in _plan(grid, weights):
        noise = yield _query(pair.x, step)
        cleaner = pair.x + times(pair.y - pair.x, weight) + quantise(addition * noise)
        pair = after_step(step.position, LatentPair(cleaner, pair.x))
    return pair


def invert(
    pair: LatentPair,
    grid: Sequence[Step],
    weights: Sequence[Fraction],
    before_step: AfterStep = keep,
) -> Coroutine[LatentPair]:
    """From image to noise, with the weights of ``generate``."""
    for step, weight, addition in reversed(_plan(grid, weights)):
        pair = before_step(step.position, pair)
        noise = yield _query(pair.y, step)
        rest = pair.x - pair.y - quantise(addition * noise)
        pair = LatentPair(pair.y, pair.y + times(rest, 1 / weight))
    return pair


def deltas_above(grid: Sequence[Step]) -> list[float]:
    """Return s_i - s_{i+1} for each step, in the order of ``grid``."""
    return [0.0, *(step.delta for step in grid[:-1])]


def _plan(grid: Sequence[Step], weights: Sequence[Fraction]) -> list[tuple[Step, Fraction, float]]:
    """Return each step with its w_i and c_i."""
    above = deltas_above(grid)
    return [
        (step, weight, float(weight) * delta_above + step.delta)
        for step, weight, delta_above in zip(grid, weights, above, strict=True)
    ]


def _query(z: Tensor, step: Step) -> Query:
    return Query(step.scale_from * to_float(z), step.timestep, step.position)
