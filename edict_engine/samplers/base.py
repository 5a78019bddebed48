"""What a sampler is.

A sampler is two generator functions over a pair of integer latents. Each yields a ``Query``, is
sent the guided noise for it, and in the end returns the pair. It knows one trajectory: no
network, no device, no batch, no clock.

Invariant: a sampler must be a deterministic function of what it is sent, and ``generate`` must
subtract what ``invert`` added, integer for integer. Compute every quantity that both directions
need by the same expression.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from torch import Tensor

from edict_engine.fixed_point import LatentPair
from edict_engine.parameters import SamplerParameters
from edict_engine.schedule import Step


@dataclass(frozen=True, slots=True)
class Query:
    """One question to the network: the noise in ``latent`` at ``timestep``.

    ``latent`` is x_t itself (not z), float64, shape (C, H, W); ``position`` is that of the step
    it belongs to, for messages.
    """

    latent: Tensor
    timestep: float
    position: int


T = TypeVar("T")
Coroutine = Generator[Query, Tensor, T]

#: Called after each step of a generation with the step's position; what it returns goes on. An
#: inversion calls it before each step, where an exact sampler's has the very same pair.
AfterStep = Callable[[int, LatentPair], LatentPair]


def keep(_: int, pair: LatentPair) -> LatentPair:
    """Go on with the pair as it is."""
    return pair


class Inversion(Protocol):
    """From image to noise."""

    def __call__(
        self,
        pair: LatentPair,
        grid: Sequence[Step],
        parameters: SamplerParameters,
        before_step: AfterStep = keep,
        /,
    ) -> Coroutine[LatentPair]:
        """Take ``pair`` up ``grid``."""


class Generation(Protocol):
    """From noise to image."""

    def __call__(
        self,
        pair: LatentPair,
        grid: Sequence[Step],
        parameters: SamplerParameters,
        after_step: AfterStep = keep,
        /,
    ) -> Coroutine[LatentPair]:
        """Take ``pair`` down ``grid``."""


@dataclass(frozen=True)
class Sampler:
    """One algorithm.

    ``invert`` takes an image's pair up the grid, ``generate`` any pair down; both are given the
    grid in generation order. ``calls_per_step`` is the number of queries in each step. ``exact``
    promises that ``generate(invert(pair)) == pair`` for every deterministic network.
    ``inversion_asks`` is false where ``invert`` has no query at all.
    """

    name: str
    calls_per_step: int
    exact: bool
    invert: Inversion
    generate: Generation
    inversion_asks: bool = True

    def inversion_turns(self, grid: Sequence[Step]) -> int:
        """Return how many queries ``invert`` has on ``grid``."""
        return self.generation_turns(grid) if self.inversion_asks else 0

    def generation_turns(self, grid: Sequence[Step]) -> int:
        """Return how many queries ``generate`` has on ``grid``."""
        return len(grid) * self.calls_per_step
