"""Latents as int64 fixed point, where what was done can be undone to the last bit.

A coordinate z (see ``schedule``) is stored as the integer nearest to ``z · 2**32``.

*Adding.* ``n ← n + quantise(v)`` is undone by subtracting the same integer.

*Mixing.* The paper's generation step ends with (equation 14)

    x ← p·x + (1-p)·y,    then    y ← p·y + (1-p)·x    with the new x.

On the difference ``d = x - y`` the first line is ``d ← p·d`` with y fixed, and so is the second
with x fixed. On integers, ``mix`` takes ``d ← round(p·d)`` and ``unmix`` ``d ← round(d/p)``.

*Why mixing gives back what unmixing was given.* ``round(d/p) = d/p + e`` with ``|e| ≤ 1/2``. Then
``p · round(d/p) = d + p·e`` lies within ``p/2`` of d: for ``p < 1`` that is less than 1/2 and
rounds to d, and for ``p = 1`` e is 0. The opposite order loses information (contracting merges
integers), so inversion, which runs first, must be the expanding one. It is. The same holds for
``times`` wherever ``1/p`` comes first and ``p ≤ 1`` second (see ``samplers.multistep``).

*Why no float is involved.* p is a fraction n/m with ``m ≤ 10 000``, so both roundings are integer
divisions, the same on every device. The engine stops a trajectory whose latent or noise exceeds
``LIMIT`` (``Diverged``); with ``a_t ≥ 1/16`` (``schedule.MIN_SCALE``) and ``p ≥ 1/2`` that keeps
``|z| ≤ 2**14`` when asked and ``|z| ≤ 2**15`` once moved; so a difference is at most
``2**16 · 2**32 = 2**48`` going into ``unmix``, ``2**49`` half way through it, and its product with
m stays below ``2**49 · 10 000 < 2**63``.
"""

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from edict_engine.transfers import move

SCALE = 2**32

#: Largest allowed magnitude of a latent x_t and of a guided noise. Real ones stay below 100.
LIMIT = 2.0**10


@dataclass(frozen=True, slots=True)
class LatentPair:
    """The coupled pair: x and y, int64 fixed point of z, shape (C, H, W), on one device."""

    x: Tensor
    y: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.x.shape
        return channels, height, width

    def to(self, device: torch.device | str) -> "LatentPair":
        """Return the pair on ``device``."""
        return LatentPair(move(self.x, device), move(self.y, device))

    def equal(self, other: "LatentPair") -> bool:
        """Tell whether every integer of both members is the same."""
        return torch.equal(self.x, other.x) and torch.equal(self.y, other.y)


def quantise(values: Tensor) -> Tensor:
    """Round float64 ``values`` to fixed point, int64 of the same shape."""
    return torch.round(values * SCALE).to(torch.int64)


def to_float(integers: Tensor) -> Tensor:
    """Return the float64 values of fixed point ``integers`` (exact below 2**53)."""
    return integers.to(torch.float64) / SCALE


def mix(pair: LatentPair, p: Fraction) -> LatentPair:
    """Contract the pair's difference (equation 14), x first."""
    x = pair.y + times(pair.x - pair.y, p)
    return LatentPair(x, x - times(x - pair.y, p))


def unmix(pair: LatentPair, p: Fraction) -> LatentPair:
    """Expand the pair's difference (equation 15), y first: ``mix(unmix(q, p), p) == q``."""
    y = pair.x - times(pair.x - pair.y, 1 / p)
    return LatentPair(y + times(pair.x - y, 1 / p), y)


def times(integers: Tensor, ratio: Fraction) -> Tensor:
    """Round ``integers · ratio`` to the nearest integer, halves up.

    The caller sees to it that ``integers · ratio.numerator`` stays inside int64.
    """
    product = integers * ratio.numerator + ratio.denominator // 2
    return torch.div(product, ratio.denominator, rounding_mode="floor")
