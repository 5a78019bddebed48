"""EDICT: exact diffusion inversion via coupled transformations (arXiv 2211.12446).

In the chart of ``schedule``, a generation step (equation 14) from level t to the next moves each
member by the noise that the network sees in its partner, and then mixes:

    z_x ← z_x + (s_next - s_t) · ε(a_t · z_y, t)
    z_y ← z_y + (s_next - s_t) · ε(a_next · z_x, t)        (z_x has moved: its level is a_next)
    z_x ← p · z_x + (1 - p) · z_y
    z_y ← p · z_y + (1 - p) · z_x

Inversion (equation 15) undoes the four lines in reverse order. Which member moves first alternates
with the step's position, counted from the generation side in both directions: counting from the
other end would undo the lines in the wrong order at every second step of an odd-length grid.
Without alternation x always moves first. Mixing always starts with x.
"""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Literal

from torch import Tensor

from edict_engine.fixed_point import LatentPair, mix, quantise, to_float, unmix
from edict_engine.parameters import SamplerParameters
from edict_engine.samplers.base import AfterStep, Coroutine, Query, Sampler, keep
from edict_engine.schedule import Step

Member = Literal["x", "y"]


def generate(
    pair: LatentPair,
    grid: Sequence[Step],
    parameters: SamplerParameters,
    after_step: AfterStep = keep,
) -> Coroutine[LatentPair]:
    """Equation 14: from noise to image."""
    for step in grid:
        first, second = _order(step, parameters)
        pair = yield from _move(pair, first, step, step.scale_from, sign=1)
        pair = yield from _move(pair, second, step, step.scale_to, sign=1)
        pair = after_step(step.position, mix(pair, parameters.mix_ratio))
    return pair


def invert(
    pair: LatentPair,
    grid: Sequence[Step],
    parameters: SamplerParameters,
    before_step: AfterStep = keep,
) -> Coroutine[LatentPair]:
    """Equation 15: from image to noise, line by line the reverse of ``generate``."""
    for step in reversed(grid):
        pair = unmix(before_step(step.position, pair), parameters.mix_ratio)
        first, second = _order(step, parameters)
        pair = yield from _move(pair, second, step, step.scale_to, sign=-1)
        pair = yield from _move(pair, first, step, step.scale_from, sign=-1)
    return pair


def _order(step: Step, parameters: SamplerParameters) -> tuple[Member, Member]:
    """Return who moves first and second in generation."""
    return ("y", "x") if parameters.alternate and step.position % 2 else ("x", "y")


def _move(
    pair: LatentPair, member: Member, step: Step, partner_scale: float, sign: Literal[1, -1]
) -> Generator[Query, Tensor, LatentPair]:
    """Add (or take back) the noise seen in the partner, whose level has scale a_t given."""
    partner = pair.y if member == "x" else pair.x
    noise = yield Query(partner_scale * to_float(partner), step.timestep, step.position)
    addition = sign * quantise(step.delta * noise)
    if member == "x":
        return replace(pair, x=pair.x + addition)
    return replace(pair, y=pair.y + addition)


EDICT = Sampler("edict", calls_per_step=2, exact=True, invert=invert, generate=generate)
