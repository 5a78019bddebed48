"""How the network's answers on one latent become the noise that a sampler is sent."""

import math
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from edict_engine.attention import Control
from edict_engine.conditioning import Conditioning


class Guidance(Protocol):
    """The conditioning rows of one query and the rule that combines their outputs."""

    @property
    def rows(self) -> int:
        """How many rows of a batch one query takes."""

    @property
    def contexts(self) -> Conditioning:
        """What each row is told: a batch of ``rows``."""

    @property
    def control(self) -> Control | None:
        """Attention control between the rows, if any."""

    def combine(self, outputs: Tensor, timestep: float) -> Tensor:
        """Turn the outputs at ``timestep``, float64 (rows, C, H, W), into noise, (C, H, W)."""


@dataclass(frozen=True)
class ClassifierFree:
    """Classifier-free guidance: ε = ε_u + w · (ε_c - ε_u), in inversion and generation alike.

    At ``scale`` 1 the unconditional row cancels, so it is not evaluated.

    ``rescale`` (φ of Lin et al. 2023, arXiv 2305.08891, equations 15 and 16) brings the spread of
    the guided noise back towards that of ε_c, which large scales inflate: 0 not at all, 1 wholly.
    ``interval`` (Kynkäänniemi et al. 2024, arXiv 2404.07724) are the timesteps, both included,
    at which there is guidance; elsewhere the noise is ε_c. Both are functions of what the network
    says and of the timestep alone, so an exact sampler stays exact.

    With ``attention``, ``cond`` is the base prompt and ``edit`` the prompt whose row, third and
    under the control, takes the place of ε_c.
    """

    uncond: Conditioning
    cond: Conditioning
    scale: float
    rescale: float = 0.0
    interval: tuple[float, float] = (0.0, math.inf)
    edit: Conditioning | None = None
    attention: Control | None = None

    @property
    def rows(self) -> int:
        """1 at scale 1, else 2; 3 with attention control."""
        return len(self._contexts)

    @property
    def contexts(self) -> Conditioning:
        """Unconditional first where it is evaluated, then the prompt, then the edit."""
        return Conditioning.stack(self._contexts)

    @property
    def control(self) -> Control | None:
        """See the class."""
        return self.attention

    def combine(self, outputs: Tensor, timestep: float) -> Tensor:
        """See the class; float64 (rows, C, H, W) → (C, H, W)."""
        cond = outputs[-1]
        low, high = self.interval
        if self.scale == 1 or not low <= timestep <= high:
            return cond
        uncond = outputs[0]
        guided = uncond + self.scale * (cond - uncond)
        if self.rescale == 0:
            return guided
        rescaled = guided * (cond.std() / guided.std())
        return self.rescale * rescaled + (1 - self.rescale) * guided

    @property
    def _contexts(self) -> list[Conditioning]:
        if self.edit is not None:
            return [self.uncond, self.cond, self.edit]
        return [self.cond] if self.scale == 1 else [self.uncond, self.cond]
