"""All figures of one run, as JSON and as tables."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from rich.table import Table

from bench.engine.recipe import RECIPE, Row
from bench.gpu.editing import Edits
from bench.gpu.rates import Rate, Yardstick
from bench.tables import table
from edict_engine.schedule import kept_steps

#: Of the steps, the share that images are inverted and edited by.
STRENGTH = 0.8


@dataclass
class Figures:
    """All that one run measured. ``left_out`` says what it did not, and why."""

    device: str
    dtype: str
    yardstick: Yardstick
    rates: list[Rate] = field(default_factory=list)
    not_compiled: dict[int, str] = field(default_factory=dict)
    edits: Edits | None = None
    recipe: Row | None = None
    left_out: list[str] = field(default_factory=list)

    @property
    def times_recipe(self) -> float | None:
        """The engine's images a second over the recipe's, at as many steps."""
        if self.edits is None or self.recipe is None:
            return None
        steps = kept_steps(self.edits.steps, STRENGTH) / self.recipe.steps
        return self.edits.images_per_second / self.recipe.images_per_second * steps

    def summary(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        edits, row = self.edits, self.recipe
        return {
            "device": self.device,
            "dtype": self.dtype,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "matrix_teraflops": self.yardstick.teraflops,
            "gigaflop_per_row": self.yardstick.operations_per_row / 1e9,
            "share_of_matrix_rate": max(rate.share_of_matrix_rate for rate in self.rates),
            "images_per_second": edits and edits.images_per_second,
            "times_recipe": self.times_recipe,
            "round_trip_max_error": edits and edits.round_trip_max_error,
            "same_beside_others": edits and edits.same_beside_others,
            "unet_share": edits and edits.unet_share,
            "peak_megabytes": edits and edits.peak_megabytes,
            "products": [asdict(product) for product in self.yardstick.products],
            "unet": [asdict(rate) for rate in self.rates],
            "not_compiled": self.not_compiled,
            "edits": edits and asdict(edits),
            "recipe": row and asdict(row),
            "left_out": self.left_out,
        }

    def tables(self) -> list[Table]:
        """Lay out all that was measured."""
        made = [
            table(
                f"Products of matrices in {self.dtype}",
                ["side", "TFLOP/s"],
                [[product.side, product.teraflops] for product in self.yardstick.products],
            ),
            table(
                f"The UNet, {self.yardstick.operations_per_row / 1e9:.4g} GFLOP a row",
                ["rows", "compiled", "ms", "rows/s", "TFLOP/s", "of the matrices'", "peak MB"],
                [list(asdict(rate).values()) for rate in self.rates],
            ),
        ]
        if self.edits:
            made.append(_upright("The engine, inversion and edit", asdict(self.edits)))
        if self.recipe:
            made.append(_upright(f"The {RECIPE}", asdict(self.recipe)))
        return made


def _upright(title: str, values: dict[str, Any]) -> Table:
    """Lay out one row as a column."""
    lines: Sequence[Sequence[object]] = [
        [name.replace("_", " "), value] for name, value in values.items() if name != "name"
    ]
    return table(title, ["", ""], lines)
