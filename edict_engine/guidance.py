"""How the network's answers on one latent become the noise that a sampler is sent."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Guidance(Protocol):
    """The conditioning rows of one query and the rule that combines their outputs."""

    @property
    def rows(self) -> int:
        """How many rows of a batch one query takes."""

    @property
    def contexts(self) -> Tensor:
        """One text embedding for each row, shape (rows, L, D)."""

    def combine(self, outputs: Tensor) -> Tensor:
        """Turn the network's outputs, float64 (rows, C, H, W), into noise, float64 (C, H, W)."""


@dataclass(frozen=True)
class ClassifierFree:
    """Classifier-free guidance: ε = ε_u + w · (ε_c - ε_u), in inversion and generation alike.

    ``uncond`` and ``cond`` are text embeddings of shape (L, D). At ``scale`` 1 the unconditional
    row cancels, so it is not evaluated.
    """

    uncond: Tensor
    cond: Tensor
    scale: float

    @property
    def rows(self) -> int:
        """1 at scale 1, else 2."""
        return 1 if self.scale == 1 else 2

    @property
    def contexts(self) -> Tensor:
        """Shape (1, L, D) at scale 1, else (2, L, D): unconditional first."""
        if self.scale == 1:
            return self.cond[None]
        return torch.stack([self.uncond, self.cond])

    def combine(self, outputs: Tensor) -> Tensor:
        """See the class; float64 (rows, C, H, W) → (C, H, W)."""
        if self.scale == 1:
            return outputs[0]
        uncond, cond = outputs.unbind()
        return uncond + self.scale * (cond - uncond)
