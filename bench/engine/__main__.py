"""The engine's figures, side by side in one run.

    python -m bench.engine [--images 8] [--steps 50] [--json]

Tables: against the paper's recipe (see ``recipe``), against diffusers' pipelines
(``alternatives``), and what the batching loop costs (``loop``), all at the editing setting
(strength 0.8, guidance 3). On a CPU without bfloat16 instructions, ``--skip-bfloat16`` saves most
of the time; the figure is then null. ``--steps 10 --images 4 --trajectories 200`` is a quick trial.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bench.engine import alternatives, loop, recipe
from edict_engine.model import load_model
from edict_engine.parameters import SamplerParameters

MODEL = "demo"


@dataclass(frozen=True)
class Figures:
    """All that one run measured."""

    recipe: list[recipe.Row]
    alternatives: list[alternatives.Alternative]
    loads: list[loop.Load]
    rows_over_ceiling: float
    memory_growth: float

    def summary(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        base, _, *ours = self.recipe
        speeds = {row.name: row.images_per_second / base.images_per_second for row in ours}
        overheads = [
            load.overhead_share for load in self.loads if load.lanes in loop.OVERHEAD_LANES
        ]
        return {
            "speedup_bfloat16": speeds.get("engine, bfloat16"),
            "speedup_float32": speeds["engine, float32"],
            "round_trip_max_error": max(row.round_trip_max_error for row in ours),
            "loop_overhead_share": max(overheads),
            "rows_over_ceiling": self.rows_over_ceiling,
            "edits_over_ddim_inversion": alternatives.edits_over_ddim(self.alternatives),
            "memory_growth_megabytes": self.memory_growth,
            "threads": torch.get_num_threads(),
            "recipe": [asdict(row) for row in self.recipe],
            "alternatives": [asdict(row) for row in self.alternatives],
            "scaling": [asdict(load) for load in self.loads],
        }


def measure(options: argparse.Namespace, parameters: SamplerParameters) -> Figures:
    """Run everything; memory that only grows comes in the order in which it is reported."""
    dtypes = [torch.float64, torch.float32]
    dtypes += [] if options.skip_bfloat16 else [torch.bfloat16]
    models = {dtype: load_model(MODEL, dtype=dtype) for dtype in dtypes}
    single = models[torch.float32]
    loads = loop.scaling(single, parameters)
    growth = loop.memory_growth(single, options.trajectories)
    latents = recipe.make_latents(models[torch.float64], options.images)
    return Figures(
        recipe.measure(models, latents, parameters),
        alternatives.measure(MODEL, single, parameters, latents),
        loads,
        loop.rows_over_ceiling(single, parameters),
        growth,
    )


def show(figures: Figures, title: str) -> None:
    """Print the tables."""
    console = Console()
    base = figures.recipe[0].images_per_second
    headings = ["", "images", "images/s", "times the recipe", "round-trip max error"]
    rows: list[list[object]] = []
    for row in figures.recipe:
        speed = row.images_per_second
        rows.append([row.name, row.images, speed, speed / base, row.round_trip_max_error])
    console.print(table(title, headings, rows))
    base = figures.alternatives[0].images_per_second
    headings = ["inverted and edited", "batch", "images/s", "times the first"]
    rows = [
        [row.name, row.batch, row.images_per_second, row.images_per_second / base]
        for row in figures.alternatives
    ]
    console.print(table("Instead of it, float32", headings, rows))
    headings = ["lanes", "seconds", "images/s", "UNet rows/s", "outside the UNet", "peak MB"]
    rows = [list(asdict(load).values()) for load in figures.loads]
    console.print(table("The loop, inversion in float32", headings, rows))
    console.print(f"rows/s of mixed lanes over a plain loop: {figures.rows_over_ceiling:.3f}")
    console.print(f"memory gained over many trajectories: {figures.memory_growth:.1f} MB")


def table(title: str, headings: Sequence[str], lines: Sequence[Sequence[object]]) -> Table:
    """Lay out numbers with three significant digits."""
    made = Table(*headings, title=title)
    for line in lines:
        made.add_row(*(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in line))
    return made


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description=__doc__)
    parser.add_argument("--images", type=int, default=8, help="images in the engine's batch")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--trajectories", type=int, default=2000, help="of the test of memory")
    parser.add_argument("--skip-bfloat16", action="store_true")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    parameters = SamplerParameters(steps=options.steps, strength=0.8, guidance=3.0)
    figures = measure(options, parameters)
    if options.json:
        print(json.dumps(figures.summary()))
    else:
        threads = f"{torch.get_num_threads()} threads, torch {torch.__version__}"
        show(figures, f"{parameters}, {threads}")


if __name__ == "__main__":
    main()
