"""The engine's figures with a UNet of Stable Diffusion 1.5's size, for a machine with a GPU.

    python -m bench.gpu [--images 32] [--steps 50] [--rows 2 8 16 32] [--size 512] [--json]

Weights are random and made in memory, so nothing is downloaded. In one run: what the card reaches
in plain products of matrices; what the UNet reaches of that at several row counts, as it is and
compiled with CUDA graphs; images inverted and edited a second by the engine (strength 0.8,
guidance 3), with its round trips; and the paper's recipe (float64, one image, conditional and
unconditional as separate calls) at few steps. What the recipe would take for all steps is reckoned
from those, for every step asks the same network as often. The engine's time has VAE and text
encoder in it, the recipe's has not.

On an H100 the defaults are meant to end within 8 minutes: what there is no time for is left out,
and the output says so. Without a GPU most of it still runs, with ``--model tiny`` in seconds.
"""

import argparse
import json

import torch
from rich.console import Console

from bench.gpu.figures import Figures
from bench.gpu.measurement import Measurement
from bench.gpu.networks import BLUEPRINTS
from edict_engine.compiled import INDUCTOR
from edict_engine.probe import GPU_RUNGS

#: A guided image takes two rows of a batch.
FEWEST_ROWS = 2


def show(figures: Figures) -> None:
    """Print the tables."""
    console = Console(width=120)
    console.print(f"{figures.device}, torch {torch.__version__}", highlight=False)
    for made in figures.tables():
        console.print(made)
    if figures.times_recipe is not None:
        times = f"{figures.times_recipe:.3g} times the recipe's images a second"
        console.print(f"at as many steps (reckoned for the recipe) the engine does {times}")
    for rows, reason in figures.not_compiled.items():
        console.print(f"not compiled, {rows} rows: {reason}")
    for one in figures.left_out:
        console.print(f"left out: {one}")


def parse() -> argparse.Namespace:
    """Read the command line; what is not given depends on whether there is a GPU."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--model", choices=BLUEPRINTS, help="default: sd15 on a GPU, else tiny")
    parser.add_argument("--size", type=int, help="side of the images; default: the model's own")
    parser.add_argument("--rows", type=int, nargs="+", default=GPU_RUNGS, help="in a UNet call")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--recipe-steps", type=int, default=2, help="that the recipe is timed at")
    parser.add_argument("--minutes", type=float, default=8.0, help="of the whole run, about")
    parser.add_argument(
        "--compiler", help="torch.compile's backend, or none; default: inductor on a GPU, else none"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    cuda = torch.device(options.device).type == "cuda"
    options.model = options.model or ("sd15" if cuda else "tiny")
    options.compiler = options.compiler or (INDUCTOR if cuda else "none")
    _check(parser, options)
    return options


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    blueprint = BLUEPRINTS[options.model]
    multiple = blueprint.pixel_factor
    if options.size is not None and (options.size < multiple or options.size % multiple):
        parser.error(
            f"--size is {options.size} and {options.model} takes multiples of {multiple}: "
            f"give {blueprint.size}, say"
        )
    if min(options.rows) < FEWEST_ROWS:
        parser.error(f"--rows has {min(options.rows)}: give at least {FEWEST_ROWS}, a guided image")
    for name in ("images", "recipe_steps"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} is {getattr(options, name)}: give at least 1")


def main() -> None:
    """Measure and print."""
    options = parse()
    figures = Measurement(options).run()
    if options.json:
        print(json.dumps(figures.summary()))
    else:
        show(figures)


if __name__ == "__main__":
    main()
