"""What the network is told beside latent and timestep, of one row or of a whole batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Conditioning:
    """The prompt as a model family wants it.

    ``hidden``: text embedding, (L, D). ``pooled``: embedding of the prompt as a whole, (P,), where
    the family has one. ``sizes``: SDXL's micro-conditioning (original height and width, top and
    left of the crop, target height and width), (6,), NaN for the image's own. With a leading
    dimension R each is a batch.
    A batch is of one family, so its rows have the same parts.
    """

    hidden: Tensor
    pooled: Tensor | None = None
    sizes: Tensor | None = None

    @classmethod
    def stack(cls, rows: Sequence["Conditioning"]) -> "Conditioning":
        """Make a batch of single rows."""
        return cls._join(torch.stack, rows)

    @classmethod
    def cat(cls, batches: Sequence["Conditioning"]) -> "Conditioning":
        """Put batches one after the other."""
        return cls._join(torch.cat, batches)

    def split(self) -> list["Conditioning"]:
        """Return a batch's rows, copied: a row that is kept shall not keep the batch."""
        return [
            Conditioning(
                hidden.clone(),
                None if self.pooled is None else self.pooled[row].clone(),
                None if self.sizes is None else self.sizes[row].clone(),
            )
            for row, hidden in enumerate(self.hidden)
        ]

    def padded(self, rows: int) -> "Conditioning":
        """Repeat a batch's first row at its end until there are ``rows``."""
        missing = rows - len(self.hidden)

        def pad(part: Tensor) -> Tensor:
            return torch.cat([part, part[:1].expand(missing, *part.shape[1:])])

        pooled, sizes = (None if part is None else pad(part) for part in (self.pooled, self.sizes))
        return Conditioning(pad(self.hidden), pooled, sizes)

    @classmethod
    def _join(
        cls, join: Callable[[list[Tensor]], Tensor], many: Sequence["Conditioning"]
    ) -> "Conditioning":
        pooled = [each.pooled for each in many if each.pooled is not None]
        sizes = [each.sizes for each in many if each.sizes is not None]
        return cls(
            join([each.hidden for each in many]),
            join(pooled) if pooled else None,
            join(sizes) if sizes else None,
        )
