"""The stages in their order. Each finds what the one before left in the working folder."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from . import comparison, dataset, latents, tokenizer
from . import diffusion as denoiser
from . import export as exporting
from . import vae as autoencoder
from .dataset import Pictures
from .files import checkpoint_state
from .foreign import AutoencoderKL
from .photographs import Photograph, find_photographs
from .recipe import Recipe
from .training import Training

#: So many pictures tell the statistics of the latents well enough.
WHITENING_PICTURES = 4096
#: What a finished model was made by, beside its weights.
RECIPE = "recipe.json"


@dataclass(frozen=True)
class Workplace:
    """Where a run keeps its files, what it makes and on which device."""

    folder: Path
    recipe: Recipe
    device: torch.device


@contextmanager
def progress(what: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Show a bar; the call that it gives moves it on."""
    columns = (TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), speed_estimate_period=120) as bar:
        task = bar.add_task(what, total=total, completed=done)
        yield lambda count: bar.advance(task, count)


def data(place: Workplace, groceries: Path, clothing: Path) -> None:
    """Make the training pictures, unless they are there."""
    photographs = find_photographs(groceries, clothing)
    training = [p for p in photographs if not p.held_out(place.recipe.held_out)]
    found = dataset.load(place.folder, place.recipe)
    if found is not None:
        if found.photographs != dataset.names_digest(training):
            raise ValueError(
                f"the pictures in {place.folder} were made of other photographs than those "
                f"below {groceries} and {clothing}, so that some of these may be held out and "
                "trained on: name the former folders, or another --work"
            )
        return
    with progress("pictures", len(training)) as tick:
        dataset.prepare(training, place.recipe, place.folder, tick)


def pictures(place: Workplace) -> Pictures:
    """Open the training pictures."""
    found = dataset.load(place.folder, place.recipe)
    if found is None:
        raise FileNotFoundError(
            f"no pictures of this recipe in {place.folder}: run the stage `data` first"
        )
    return found


def vae(place: Workplace) -> None:
    """Train the autoencoder and whiten its latents."""
    finished = place.folder / "vae"
    state = checkpoint_state(place.folder / "vae.safetensors")
    if finished.exists() and state.get("digest") == autoencoder.digest(place.recipe):
        return
    training = autoencoder.training(place.recipe, pictures(place), place.folder, place.device)
    forget(finished)
    finish("vae", training)
    training.use_average()
    autoencoder.whiten(training.module, pictures(place).pixels[:: _stride(place)])
    with replaced_folder(finished) as folder:
        training.module.save_pretrained(folder)


def decoder(place: Workplace) -> None:
    """Train the decoder further, on latents that stay as they are."""
    finished = place.folder / "vae-finished"
    state = checkpoint_state(place.folder / "decoder.safetensors")
    if finished.exists() and state.get("digest") == autoencoder.decoder_digest(place.recipe):
        return
    made = pictures(place)
    network = AutoencoderKL.from_pretrained(place.folder / "vae").to(place.device)
    training = autoencoder.decoder_training(
        place.recipe, network, made, _latents(place, made), place.folder
    )
    forget(finished)
    finish("decoder", training)
    training.use_average()
    with replaced_folder(finished) as folder:
        network.save_pretrained(folder)


def diffusion(place: Workplace) -> None:
    """Train the denoiser and the text encoder."""
    finish("diffusion", diffusion_training(place))


def diffusion_training(place: Workplace) -> Training[denoiser.Denoiser]:
    """Set up the training of the denoiser with all that it learns from."""
    made = pictures(place)
    words = tokenizer.build(
        made.captions, place.recipe.unet_shape.tokens, place.folder / "tokenizer"
    )
    data = denoiser.Captioned.of(_latents(place, made), made.captions, words)
    return denoiser.training(place.recipe, data, words, place.folder, place.device)


def _latents(place: Workplace, made: Pictures) -> torch.Tensor:
    """Read the latents, or encode the pictures."""
    path = place.folder / "latents.safetensors"
    digest = autoencoder.digest(place.recipe)
    found = latents.load(path, digest)
    if found is not None:
        return found
    network = AutoencoderKL.from_pretrained(place.folder / "vae").to(place.device)
    with progress("latents", len(made.pixels)) as tick:
        latents.prepare(network, made, path, digest, tick)
    return _latents(place, made)


def compare(place: Workplace, photographs: list[Photograph], steps: int) -> Path:
    """Train every variant for as many steps, and leave a table of what each reached."""
    made = pictures(place)
    words = tokenizer.build(
        made.captions, place.recipe.unet_shape.tokens, place.folder / "tokenizer"
    )
    data = denoiser.Captioned.of(_latents(place, made), made.captions, words)
    network = AutoencoderKL.from_pretrained(place.folder / "vae").to(place.device).eval()
    unseen = comparison.held_out_data(network, words, photographs, place.recipe)
    base = comparison.shortened(place.recipe, steps)
    outcomes = []
    for variant in comparison.VARIANTS:
        some = comparison.kept(data, made.captions, variant.keeps)
        folder = place.folder / "comparison" / variant.name.replace(" ", "-")
        training = denoiser.training(variant.change(base), some, words, folder, place.device)
        finish(variant.name, training)
        outcomes.append(comparison.judge(variant.name, training, unseen, variant.change(base)))
        comparison.write_table(outcomes, base, place.folder / "comparison")
    return place.folder / "comparison"


def export(place: Workplace, folder: Path) -> int:
    """Write the model's folder; the training must have ended."""
    if is_exported(place, folder):
        raise FileExistsError(f"{folder} holds a model already: name another --out, or remove it")
    training = diffusion_training(place)
    if training.step < training.stage.steps:
        raise RuntimeError(
            f"the denoiser is at step {training.step} of {training.stage.steps}: "
            "run the stage `diffusion` to its end first"
        )
    training.use_average()
    words = tokenizer.load(place.folder / "tokenizer", place.recipe.unet_shape.tokens)
    with replaced_folder(folder) as unfinished:
        (unfinished / RECIPE).write_text(_text_of(place.recipe))
        return exporting.export(
            training.module, place.folder / "vae-finished", words, place.recipe, unfinished
        )


def is_exported(place: Workplace, folder: Path) -> bool:
    """Tell whether the finished model of this recipe is in the folder.

    Raises:
        FileExistsError: something else is in it.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return False
    record = folder / RECIPE
    if record.exists() and record.read_text() == _text_of(place.recipe):
        return True
    raise FileExistsError(
        f"{folder} holds something else than the model of this recipe: "
        "name another --out, or remove it"
    )


def _text_of(recipe: Recipe) -> str:
    return recipe.model_dump_json(indent=2) + "\n"


def finish(what: str, training: Training[Any]) -> None:
    """Train to the end, showing how far it is."""
    with progress(what, training.stage.steps, training.step) as tick:
        training.run(lambda _: tick(1))


def _stride(place: Workplace) -> int:
    return max(1, len(pictures(place).pixels) // WHITENING_PICTURES)


def forget(finished: Path) -> None:
    """Remove what a training left whose checkpoint is gone.

    Before the first checkpoint: beside one, the folder says that the training has ended.
    """
    if finished.exists():
        shutil.rmtree(finished)


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Fill a folder beside `path`, which takes its name when it is complete."""
    temporary = path.with_name(f".{path.name}.writing")
    temporary.mkdir(parents=True, exist_ok=True)
    yield temporary
    temporary.replace(path)
