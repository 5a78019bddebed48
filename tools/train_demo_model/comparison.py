"""Recipes side by side: what each change does, at the same number of steps from nothing.

Pictures are judged without a sampler, so that all predictions can be compared: by the error of
the predicted noise on held-out pictures, and by how much the caption lowers it at high noise,
which is where an edit must be led by words.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from transformers import CLIPTokenizer

from . import dataset, vae
from .captions import BARE
from .diffusion import Captioned, Denoiser, alphas_cumprod
from .files import replaced
from .foreign import Autoencoder
from .photographs import Photograph
from .recipe import Recipe, Stage
from .training import Training, mixed_precision
from .vocabulary import ANY_NOUN

#: Timesteps that stand for little, middling and much noise.
BANDS = {"low": range(50, 300, 50), "middle": range(350, 650, 50), "high": range(700, 1000, 50)}
#: Held-out pictures that errors are averaged over, and the seed of their noise.
PICTURES, SEED = 256, 1234


@dataclass(frozen=True)
class Variant:
    """One change of the recipe, and which pictures it trains on."""

    name: str
    change: Callable[[Recipe], Recipe]
    keeps: Callable[[str], bool] = lambda _: True


def _with_channels(recipe: Recipe, *channels: int) -> Recipe:
    shape = recipe.unet_shape.model_copy(update={"channels": channels})
    return recipe.model_copy(update={"unet_shape": shape})


def names_the_thing(caption: str) -> bool:
    """Tell captions that name what is shown from those that name nothing or anything."""
    nouns = {noun.split()[-1] for noun in ANY_NOUN}
    return caption not in BARE.values() and not nouns & set(caption.split())


VARIANTS = (
    Variant("as shipped", lambda recipe: recipe),
    Variant("no loss weight", lambda recipe: recipe.model_copy(update={"weight_limit": 1.0})),
    Variant("v-prediction", lambda r: r.model_copy(update={"prediction": "v_prediction"})),
    Variant("narrower", lambda recipe: _with_channels(recipe, 48, 64, 96)),
    Variant("wider", lambda recipe: _with_channels(recipe, 96, 128, 160)),
    Variant("captions that name the thing only", lambda recipe: recipe, names_the_thing),
)


class Outcome(BaseModel):
    """What one recipe reached."""

    model_config = ConfigDict(frozen=True)

    name: str
    parameters: int
    seconds: float
    errors: dict[str, float]
    caption_gain: float


def shortened(recipe: Recipe, steps: int) -> Recipe:
    """Give every variant the same, smaller number of steps."""
    stage: Stage = recipe.unet.model_copy(update={"steps": steps})
    return recipe.model_copy(update={"unet": stage})


def kept(data: Captioned, captions: list[str], keeps: Callable[[str], bool]) -> Captioned:
    """Leave out the pictures whose captions a variant does without."""
    chosen = torch.tensor([index for index, text in enumerate(captions) if keeps(text)])
    return Captioned(data.latents[chosen], data.ids, data.row[chosen])


def held_out_data(
    network: Autoencoder, words: CLIPTokenizer, photographs: list[Photograph], recipe: Recipe
) -> Captioned:
    """Make pictures of held-out photographs, by the same means as the training's."""
    held_out = [photo for photo in photographs if photo.held_out(recipe.held_out)]
    each = max(1, len(held_out) // PICTURES)
    made = [p for photo in held_out[::each] for p in islice(_shuffled(photo, recipe), 2)]
    latents = vae.encode(network, np.stack([pixels for pixels, _ in made]))
    return Captioned.of(latents.half(), [text for _, text in made], words)


def _shuffled(photo: Photograph, recipe: Recipe) -> list[tuple[dataset.Pixels, str]]:
    pictures = list(dataset.make_pictures(photo, recipe))
    order = np.random.default_rng(len(photo.name)).permutation(len(pictures))
    return [pictures[index] for index in order]


@torch.no_grad()
def errors(module: Denoiser, data: Captioned, recipe: Recipe) -> tuple[dict[str, float], float]:
    """Measure the error of the noise in each band, and the caption's gain at high noise."""
    module.eval()
    empty = torch.full_like(data.row, len(data.ids) - 1)
    with_words = {
        band: float(np.mean([_error(module, data, data.row, t, recipe) for t in times]))
        for band, times in BANDS.items()
    }
    without = np.mean([_error(module, data, empty, t, recipe) for t in BANDS["high"]])
    return with_words, float(1 - with_words["high"] / without)


def _error(module: Denoiser, data: Captioned, rows: Tensor, time: int, recipe: Recipe) -> float:
    alpha = alphas_cumprod()[time]
    clean = data.latents.float()
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(SEED + time))
    noised = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
    times = torch.full((len(clean),), time)
    device = next(module.parameters()).device
    batches = zip(noised.chunk(8), times.chunk(8), rows.chunk(8), strict=True)
    with mixed_precision(device):
        parts = [module(x.to(device), t.to(device), data.ids[r].to(device)) for x, t, r in batches]
    said = torch.cat(parts).float().cpu()
    if recipe.prediction == "v_prediction":
        said = alpha.sqrt() * said + (1 - alpha).sqrt() * noised
    return float((said - noise).pow(2).mean())


def judge(name: str, training: Training[Denoiser], data: Captioned, recipe: Recipe) -> Outcome:
    """Measure a variant whose training has ended."""
    training.use_average()
    module = training.module
    bands, gain = errors(module, data, recipe)
    count = sum(parameter.numel() for parameter in module.parameters())
    return Outcome(
        name=name, parameters=count, seconds=training.seconds, errors=bands, caption_gain=gain
    )


def table(outcomes: list[Outcome], recipe: Recipe) -> str:
    """Write the outcomes as a table."""
    lines = [
        f"{recipe.unet.steps} steps of {recipe.unet.batch} pictures each, from nothing.",
        "",
        "| recipe | parameters | s/step | error, low noise | middle | high | caption's gain |",
        "|---|---|---|---|---|---|---|",
    ]
    for out in outcomes:
        bands = " | ".join(f"{out.errors[band]:.4f}" for band in BANDS)
        size, speed = f"{out.parameters / 1e6:.1f} M", f"{out.seconds / recipe.unet.steps:.2f}"
        lines.append(f"| {out.name} | {size} | {speed} | {bands} | {out.caption_gain:.1%} |")
    return "\n".join(lines) + "\n"


def write_table(outcomes: list[Outcome], recipe: Recipe, folder: Path) -> None:
    """Leave the table beside the variants' checkpoints."""
    with replaced(folder / "COMPARISON.md") as path:
        path.write_text(table(outcomes, recipe))
