"""The command line: `python -m tools.train_demo_model STAGE --help`."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from . import assessment, stages
from .editing import Settings
from .photographs import find_photographs
from .recipe import Recipe
from .stages import Workplace

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

Groceries = Annotated[Path, typer.Option(help="`dataset` of marcusklasson/GroceryStoreDataset.")]
Clothing = Annotated[Path, typer.Option(help="A copy of alexeygrigorev/clothing-dataset-small.")]
Work = Annotated[Path, typer.Option(help="Where pictures, checkpoints and logs are kept.")]
RecipeFile = Annotated[Path | None, typer.Option("--recipe", help="JSON of what differs.")]
Out = Annotated[Path, typer.Option(help="The folder of the finished model.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Count = Annotated[int, typer.Option(help="Held-out photographs to edit.")]
Steps = Annotated[int, typer.Option(help="Length of the timestep grid.")]
Strength = Annotated[float, typer.Option(help="Share of the grid that is used.")]
Guidance = Annotated[float, typer.Option(help="Classifier-free guidance scale.")]
LocalGuidance = Annotated[float, typer.Option(help="The scale of edits in a mask.")]
GuidedFrom = Annotated[float, typer.Option(help="Share of the timesteps below which it is off.")]
Mix = Annotated[float, typer.Option(help="EDICT's p: fewer steps want a smaller one.")]
Threads = Annotated[int, typer.Option(help="CPU threads; figures repeat bit for bit at one.")]


def _workplace(work: Path, recipe: Path | None, device: str, threads: int) -> Workplace:
    torch.set_num_threads(threads)
    return Workplace(work, Recipe.read(recipe), torch.device(device))


@app.command()
def data(
    groceries: Groceries,
    clothing: Clothing,
    work: Work,
    recipe: RecipeFile = None,
) -> None:
    """Make pictures with captions of both data sets."""
    stages.data(_workplace(work, recipe, "cpu", 1), groceries, clothing)


@app.command()
def vae(
    work: Work, recipe: RecipeFile = None, device: Device = "cpu", threads: Threads = 1
) -> None:
    """Train the autoencoder and encode all pictures with it."""
    stages.vae(_workplace(work, recipe, device, threads))


@app.command()
def decoder(
    work: Work, recipe: RecipeFile = None, device: Device = "cpu", threads: Threads = 1
) -> None:
    """Train the decoder further; can run beside `diffusion`."""
    stages.decoder(_workplace(work, recipe, device, threads))


@app.command()
def diffusion(
    work: Work, recipe: RecipeFile = None, device: Device = "cpu", threads: Threads = 1
) -> None:
    """Train the denoiser together with its text encoder."""
    stages.diffusion(_workplace(work, recipe, device, threads))


@app.command()
def export(work: Work, out: Out, recipe: RecipeFile = None) -> None:
    """Write the finished model: Stable Diffusion's folder layout, float16."""
    stages.export(_workplace(work, recipe, "cpu", 1), out)


@app.command()
def evaluate(
    groceries: Groceries,
    clothing: Clothing,
    work: Work,
    out: Out,
    recipe: RecipeFile = None,
    device: Device = "cpu",
    threads: Threads = 1,
    count: Count = 48,
    steps: Steps = Settings.steps,
    strength: Strength = Settings.strength,
    guidance: Guidance = Settings.guidance,
    guided_from: GuidedFrom = Settings.guided_from,
    local_guidance: LocalGuidance = Settings.local_guidance,
    mix: Mix = Settings.mix,
) -> None:
    """Measure the finished model; leaves figures, a grid and the model card in its folder."""
    place = _workplace(work, recipe, device, threads)
    settings = Settings(steps, strength, guidance, guided_from, local_guidance, mix)
    assessment.evaluate(place, find_photographs(groceries, clothing), out, count, settings)


@app.command()
def compare(
    groceries: Groceries,
    clothing: Clothing,
    work: Work,
    recipe: RecipeFile = None,
    device: Device = "cpu",
    threads: Threads = 1,
    steps: Annotated[int, typer.Option(help="Steps of each variant.")] = 400,
) -> None:
    """Train variants of the recipe for a little while each and write a table of them."""
    place = _workplace(work, recipe, device, threads)
    stages.compare(place, find_photographs(groceries, clothing), steps)


@app.command(name="all")
def everything(
    groceries: Groceries,
    clothing: Clothing,
    work: Work,
    out: Out,
    recipe: RecipeFile = None,
    device: Device = "cpu",
    threads: Threads = 1,
) -> None:
    """Go all the way from the photographs to the model card; goes on where it stopped."""
    # Asked at once: what is in the way is better known before hours of training.
    exported = stages.is_exported(_workplace(work, recipe, device, threads), out)
    data(groceries, clothing, work, recipe)
    vae(work, recipe, device, threads)
    decoder(work, recipe, device, threads)
    diffusion(work, recipe, device, threads)
    if not exported:
        export(work, out, recipe)
    evaluate(groceries, clothing, work, out, recipe, device, threads)


if __name__ == "__main__":
    app()
