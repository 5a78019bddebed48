"""Edits of many pictures for the evaluation, by the project's own engine."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image

from edict_engine.editor import Editor
from edict_engine.engine import Engine
from edict_engine.images import to_pixels
from edict_engine.metrics import mse
from edict_engine.model import load_model
from edict_engine.numerics import fastest_dtype
from edict_engine.parameters import SamplerParameters

from .dataset import Pixels

#: Rows of a batch: one edit takes two, so eight pictures are edited at a time.
ROWS = 16
ONE_EDIT = 2


@dataclass(frozen=True)
class Settings:
    """How pictures are edited: what `edict_engine` calls sampler parameters.

    Below the share `guided_from` of the timesteps there is no guidance: colours that a strong
    guidance drove too far (grey turns blue) come back there. Edits that are kept to a mask are
    guided by `local_guidance`: what is around them holds them back, and cannot be spoilt.

    `mix` is EDICT's p. The fewer the steps, the further each of them takes the two latents away
    from each other, and the more they have to be mixed: at the paper's 0.93 the one that is shown
    keeps colours that the other has lost.
    """

    steps: int = 16
    strength: float = 1.0
    guidance: float = 4.0
    guided_from: float = 0.0
    local_guidance: float = 6.0
    mix: float = 0.78


@dataclass(frozen=True)
class Request:
    """One picture, the words that describe it, and the words of the edits that are asked for.

    `local` edits are kept to where the prompts disagree: to the mask "auto". `kept` edits are, too,
    and have the picture's own pixels around it.
    """

    pixels: Pixels
    base: str
    targets: Sequence[str]
    local: Sequence[str] = ()
    kept: Sequence[str] = ()


@dataclass(frozen=True)
class RoundTrip:
    """Mean squared errors on -1..1 against the source: the VAE alone and each method."""

    vae: float
    edict: float
    ddim_conditional: float
    ddim_unconditional: float


class Editing(Protocol):
    """What the evaluation needs done."""

    def edit(self, request: Request, /) -> list[Pixels]:
        """Make the edits of one picture: of `targets`, then of `local`, then of `kept`."""

    def round_trip(self, pixels: Pixels, caption: str, /) -> RoundTrip:
        """Invert a picture and generate it back, by each method."""


class EngineEditing:
    """The protocol on top of `edict_engine`. Safe to call from many threads."""

    def __init__(self, editor: Editor, settings: Settings) -> None:
        self._editor = editor
        self._settings = settings

    def edit(self, request: Request) -> list[Pixels]:
        """See `Editing`; one inversion serves all edits of a picture."""
        image = Image.fromarray(request.pixels)
        inversion = self._editor.invert(
            image,
            request.base,
            self._parameters("edict"),
            for_masks=bool(request.local or request.kept),
        )
        edit = partial(self._editor.edit, inversion)
        local = partial(edit, guidance=self._settings.local_guidance, mask="auto")
        made = [
            *(edit(target) for target in request.targets),
            *(local(target) for target in request.local),
            *(local(target, keep_pixels_of=image) for target in request.kept),
        ]
        return [np.asarray(each.image) for each in made]

    def round_trip(self, pixels: Pixels, caption: str) -> RoundTrip:
        """See `Editing`; "unconditional" has no caption and no guidance."""
        image = Image.fromarray(pixels)
        edict, vae = self._error(image, caption, self._parameters("edict"))
        conditional, _ = self._error(image, caption, self._parameters("ddim"))
        unconditional, _ = self._error(image, "", self._parameters("ddim", guidance=1.0))
        return RoundTrip(vae, edict, conditional, unconditional)

    def _error(
        self, image: Image.Image, prompt: str, parameters: SamplerParameters
    ) -> tuple[float, float]:
        inversion = self._editor.invert(image, prompt, parameters)
        made = self._editor.reconstruct(inversion, image)
        if made.vae_psnr is None:
            raise RuntimeError("the engine gave no error of the VAE though it had the source")
        return mse(to_pixels(made.image), to_pixels(image)), 4 / 10 ** (made.vae_psnr / 10)

    def _parameters(self, sampler: str, guidance: float | None = None) -> SamplerParameters:
        scale = self._settings.guidance if guidance is None else guidance
        return SamplerParameters(
            sampler=sampler,
            steps=self._settings.steps,
            strength=self._settings.strength,
            guidance=scale,
            guidance_interval=(self._settings.guided_from, 1.0),
            mix=self._settings.mix,
        )


@contextmanager
def open_editing(model: Path, settings: Settings, device: str, rows: int) -> Iterator[Editing]:
    """Load the model and run the engine as long as the context lasts."""
    dtype = fastest_dtype(torch.device(device))
    loaded = load_model(model, device=device, dtype=dtype, local_files_only=True)
    with Engine(loaded, rungs=(rows,)) as engine:
        yield EngineEditing(Editor(loaded, engine), settings)


def edit_all(
    editing: Editing, requests: Sequence[Request], tick: Callable[[int], None]
) -> list[list[Pixels]]:
    """Edit many pictures, as many at a time as fill the engine's batch."""

    def one(request: Request) -> list[Pixels]:
        edits = editing.edit(request)
        tick(1)
        return edits

    with ThreadPoolExecutor(ROWS // ONE_EDIT) as pool:
        return list(pool.map(one, requests))
