"""The engine's figures, side by side in one run.

    python -m bench.engine [--only TABLE] [--images 32] [--steps 50] [--json]

Tables: against the paper's recipe in float32 (``recipe``) and in ``bfloat16``, against diffusers'
pipelines (``alternatives``), what the batching loop costs at more and more lanes (``scaling``),
against a plain loop (``ceiling``), and memory over many trajectories (``memory``); all at the
editing setting (strength 0.8, guidance 3). And VAE and text encoder in batches (``auxiliary``).
``--only`` may be given several times; figures of other tables are then null. Compiling for the
ceiling takes minutes on a CPU: ``--skip-compiled``.
``--steps 10 --images 4 --trajectories 200`` is a quick trial.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bench.engine import alternatives, auxiliary, loop, recipe
from bench.engine.models import MODEL, Models
from bench.tables import table
from edict_engine.compiled import INDUCTOR
from edict_engine.model import Model
from edict_engine.parameters import SamplerParameters

#: In the order in which they are measured: peaks of memory are read from the first ones on.
TABLES = ("scaling", "memory", "recipe", "bfloat16", "alternatives", "ceiling", "auxiliary")


@dataclass
class Figures:
    """All that one run measured; what it did not is empty or None."""

    contenders: Sequence[recipe.Row] = ()
    others: Sequence[alternatives.Alternative] = ()
    loads: Sequence[loop.Load] = ()
    ceilings: Sequence[loop.Ceiling] = ()
    widths: Sequence[auxiliary.Width] = ()
    memory_growth: float | None = None

    def summary(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        speeds = {row.name: recipe.times_recipe(row, self.contenders) for row in self.contenders}
        errors = [row.round_trip_max_error for row in self.contenders if row.name in recipe.ENGINES]
        shares = [one.overhead_share for one in self.loads if one.lanes in loop.OVERHEAD_LANES]
        return {
            "speedup_bfloat16": speeds.get(recipe.ENGINE_BFLOAT16),
            "speedup_float32": speeds.get(recipe.ENGINE_FLOAT32),
            "round_trip_max_error": max(errors, default=None),
            "loop_overhead_share": max(shares, default=None),
            "rows_over_ceiling": self.ceilings[-1].ratio if self.ceilings else None,
            "edits_over_ddim_inversion": alternatives.edits_over_ddim(self.others),
            "memory_growth_megabytes": self.memory_growth,
            "threads": torch.get_num_threads(),
            "recipe": [asdict(row) for row in self.contenders],
            "alternatives": [asdict(row) for row in self.others],
            "scaling": [asdict(load) for load in self.loads],
            "ceilings": [asdict(one) for one in self.ceilings],
            "auxiliary": [asdict(one) for one in self.widths],
        }


def measure(options: argparse.Namespace, parameters: SamplerParameters) -> Figures:
    """Run the tables that were asked for."""
    wanted, models, figures = options.only or TABLES, Models(), Figures()
    if "scaling" in wanted:
        figures.loads = loop.scaling(models[torch.float32], parameters)
    if "memory" in wanted:
        figures.memory_growth = loop.memory_growth(models[torch.float32], options.trajectories)
    if {"recipe", "bfloat16", "alternatives"} & {*wanted}:
        latents = recipe.make_latents(models[torch.float32], options.images)
    if "recipe" in wanted:
        figures.contenders = recipe.measure(models, latents, parameters)
    if "bfloat16" in wanted:
        emulated = recipe.measure_bfloat16(models, latents, parameters)
        figures.contenders = [*figures.contenders, *emulated]
    if "alternatives" in wanted:
        single = models[torch.float32]
        figures.others = alternatives.measure(MODEL, single, parameters, latents)
    if "ceiling" in wanted:
        pairs: list[tuple[Model, str | None]] = [(models[torch.float32], None)]
        if not options.skip_compiled:
            pairs.append((models.compiled(), INDUCTOR))
        figures.ceilings = [loop.ceiling(model, parameters, name) for model, name in pairs]
    if "auxiliary" in wanted:
        figures.widths = auxiliary.measure(models)
    return figures


def show(figures: Figures, title: str) -> None:
    """Print the tables."""
    console = Console(width=120)
    console.print(title, highlight=False)
    for made in tables(figures):
        if made.row_count:
            console.print(made)
    if figures.memory_growth is not None:
        console.print(f"memory gained over many trajectories: {figures.memory_growth:.1f} MB")


def tables(figures: Figures) -> list[Table]:
    """Lay out all that was measured."""
    rows = figures.contenders
    others = figures.others
    ceilings = figures.ceilings
    return [
        table(
            "Against the paper's recipe",
            ["", "images", "steps", "images/s", "times the recipe", "round-trip max error"],
            [
                [
                    *(row.name, row.images, row.steps, row.images_per_second),
                    *(recipe.times_recipe(row, rows), row.round_trip_max_error),
                ]
                for row in rows
            ],
        ),
        table(
            "Instead of it, float32",
            ["inverted and edited", "batch", "images/s", "times the first"],
            [
                [
                    *(row.name, row.batch, row.images_per_second),
                    row.images_per_second / others[0].images_per_second,
                ]
                for row in others
            ],
        ),
        table(
            "The loop, inversion in float32",
            ["lanes", "seconds", "images/s", "UNet rows/s", "outside the UNet", "peak MB"],
            [list(asdict(load).values()) for load in figures.loads],
        ),
        table(
            f"Mixed lanes against a plain loop, {loop.CEILING_LANES} lanes",
            ["compiler", "plain rows/s", "mixed rows/s", "ratio", "fault"],
            [
                [
                    *(one.compiler or "none", one.plain_rows_per_second),
                    *(one.mixed_rows_per_second, one.ratio, one.fault or ""),
                ]
                for one in ceilings
            ],
        ),
        table(
            "VAE and text encoder in batches, float32",
            ["width", "images/s, full", "images/s, lonely", "prompts/s, full", "prompts/s, lonely"],
            [list(asdict(one).values()) for one in figures.widths],
        ),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description=__doc__)
    parser.add_argument("--only", action="append", choices=TABLES, help="this table; repeatable")
    parser.add_argument("--images", type=int, default=32, help="images in the engine's batch")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--trajectories", type=int, default=2000, help="of the test of memory")
    parser.add_argument("--skip-compiled", action="store_true", help="of the ceiling")
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
