"""How fast and how exact: the paper's recipe against the engine.

A row inverts and edits images, and then, outside the clock, generates the inversions back and
reports the largest difference from where they started.

* *recipe*: what the paper published. State and network in float64, one image at a time, the
  conditional and the unconditional pass as separate calls.
* *recipe in float32*: the same with state and network in float32.
* *engine*: integer state, all images in shared batches.

Text encoding, the VAE and loading are outside the clock in every row.

A CPU that only emulates bfloat16 takes twenty times as long in it. There, bfloat16 is compared at
``FEW_STEPS`` steps, with the recipe at as many: the ratio hardly depends on how many there are.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bench.engine.loop import synchronise
from edict_engine.conditioning import Conditioning
from edict_engine.engine import Engine
from edict_engine.fixed_point import LatentPair, quantise, to_float
from edict_engine.group import Trajectory
from edict_engine.guidance import ClassifierFree
from edict_engine.model import Model
from edict_engine.parameters import SamplerParameters
from edict_engine.samplers.base import Coroutine, Generation, Inversion, Sampler
from edict_engine.samplers.edict import EDICT
from edict_engine.schedule import Step

BASE, EDIT = "a photo of red tomatoes", "a photo of green apples"
RECIPE = "recipe (float64, one image, two calls a step and member)"
ENGINE_FLOAT32, ENGINE_BFLOAT16 = ENGINES = ("engine, float32", "engine, bfloat16")
FEW_STEPS = 5


@dataclass(frozen=True)
class Row:
    """One line of the table. ``seconds`` are for inverting and editing all ``images``."""

    name: str
    images: int
    steps: int
    seconds: float
    images_per_second: float
    round_trip_max_error: float


class Recipe:
    """EDICT as published (equations 14 and 15), in floating point of the model's precision."""

    def __init__(self, model: Model, parameters: SamplerParameters) -> None:
        self._model = model
        self._parameters = parameters
        self._grid = model.schedule.grid(parameters.steps, parameters.strength)

    def measure(self, name: str, latents: list[Tensor]) -> Row:
        """Invert and edit one image after the other; then go back."""
        warm_up(self._model, 1)
        begun = time.perf_counter()
        inverted = []
        for latent in latents:
            inverted.append(self._invert(latent.to(self._model.dtype)))
            self._generate(inverted[-1], EDIT)
        synchronise(self._model.device)
        seconds = time.perf_counter() - begun
        back = [self._generate(pair, BASE)[0] for pair in inverted]
        return row(name, self._parameters.steps, seconds, back, latents)

    def _invert(self, latent: Tensor) -> list[Tensor]:
        p, pair = self._parameters.mix, [latent, latent]
        for step in reversed(self._grid):
            pair[1] = (pair[1] - (1 - p) * pair[0]) / p
            pair[0] = (pair[0] - (1 - p) * pair[1]) / p
            a, b = coefficients(step)
            for mover in (1 - step.position % 2, step.position % 2):
                pair[mover] = (pair[mover] - b * self._noise(pair[1 - mover], step, BASE)) / a
        return pair

    def _generate(self, inverted: list[Tensor], prompt: str) -> list[Tensor]:
        p, pair = self._parameters.mix, list(inverted)
        for step in self._grid:
            a, b = coefficients(step)
            for mover in (step.position % 2, 1 - step.position % 2):
                pair[mover] = a * pair[mover] + b * self._noise(pair[1 - mover], step, prompt)
            pair[0] = p * pair[0] + (1 - p) * pair[1]
            pair[1] = p * pair[1] + (1 - p) * pair[0]
        return pair

    def _noise(self, latent: Tensor, step: Step, prompt: str) -> Tensor:
        timestep = torch.tensor([step.timestep], device=latent.device)
        uncond, cond = (
            self._model.denoise(
                latent[None], timestep, Conditioning.stack([self._model.embed(text)])
            )[0]
            for text in ("", prompt)
        )
        return uncond + self._parameters.guidance * (cond - uncond)


class Batched:
    """A sampler by the engine: integer state, one call for the rows of all images."""

    def __init__(
        self, model: Model, parameters: SamplerParameters, sampler: Sampler = EDICT
    ) -> None:
        self._sampler = sampler
        self._model = model
        self._parameters = parameters
        self._grid = model.schedule.grid(parameters.steps, parameters.strength)

    def measure(self, name: str, latents: list[Tensor]) -> Row:
        """Invert all together and edit all together; then go back."""
        scale, rows = self._model.schedule.image_scale, 2 * len(latents)
        starts = [quantise(latent / scale) for latent in latents]
        warm_up(self._model, rows)
        with Engine(self._model, rungs=(rows,)) as engine:
            begun = time.perf_counter()
            pairs = [LatentPair(z, z) for z in starts]
            inverted = self._run(engine, self._sampler.invert, pairs, BASE)
            self._run(engine, self._sampler.generate, inverted, EDIT)
            seconds = time.perf_counter() - begun
            back = self._run(engine, self._sampler.generate, inverted, BASE)
        ends, begins = [to_float(pair.x) for pair in back], [to_float(z) for z in starts]
        return row(name, self._parameters.steps, seconds, ends, begins)

    def _run(
        self,
        engine: Engine,
        direction: Inversion | Generation,
        pairs: list[LatentPair],
        prompt: str,
    ) -> list[LatentPair]:
        embed, scale = self._model.embed, self._parameters.guidance
        guidance = ClassifierFree(embed(""), embed(prompt), scale)
        turns = len(self._grid) * self._sampler.calls_per_step

        def start(pair: LatentPair) -> Callable[[], Coroutine[LatentPair]]:
            return lambda: direction(pair, self._grid, self._parameters)

        tickets = [
            engine.submit(Trajectory(start(pair), guidance, pair.shape, turns)) for pair in pairs
        ]
        return [ticket.result() for ticket in tickets]


def coefficients(step: Step) -> tuple[float, float]:
    """Return the paper's a_t and b_t: x_next = a_t · x + b_t · ε."""
    return step.scale_to / step.scale_from, step.scale_to * step.delta


def warm_up(model: Model, rows: int) -> None:
    """Pay for embedding the prompts and for the first call of a shape outside the clock."""
    contexts = [model.embed(text) for text in (BASE, EDIT, "")]
    shape = model.latent_shape(model.default_size, model.default_size)
    latents = torch.zeros(rows, *shape, device=model.device)
    timesteps = torch.zeros(rows, dtype=torch.int64, device=model.device)
    model.denoise(latents, timesteps, Conditioning.stack(contexts[:1]).padded(rows))
    synchronise(model.device)


def row(name: str, steps: int, seconds: float, back: list[Tensor], starts: list[Tensor]) -> Row:
    """Make a table row; the error is the largest of all latents and elements."""
    error = (torch.stack(back).to(torch.float64) - torch.stack(starts)).abs().max().item()
    return Row(name, len(starts), steps, seconds, len(starts) / seconds, error)


def times_recipe(row: Row, rows: Sequence[Row]) -> float:
    """Compare a row's images a second with those of the recipe at as many steps."""
    base = next(one for one in rows if (one.name, one.steps) == (RECIPE, row.steps))
    return row.images_per_second / base.images_per_second


def make_images(size: int, count: int) -> list[Tensor]:
    """Make smooth random pixels (3, ``size``, ``size``) in [-1, 1], always the same."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 4, 4, generator=generator) * 2 - 1
    smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic")
    return list(smooth.clamp(-1, 1))


def make_latents(model: Model, count: int) -> list[Tensor]:
    """Latents of such images: real enough for the error, same for all rows."""
    return [model.encode(image) for image in make_images(model.default_size, count)]


def measure(
    models: Mapping[torch.dtype, Model], latents: list[Tensor], parameters: SamplerParameters
) -> list[Row]:
    """Compare in float32; the recipes take two images at most, since they go one by one."""
    few, single = latents[:2], models[torch.float32]
    return [
        Recipe(models[torch.float64], parameters).measure(RECIPE, few),
        Recipe(single, parameters).measure("recipe in float32", few),
        Batched(single, parameters).measure(ENGINE_FLOAT32, latents),
    ]


def measure_bfloat16(
    models: Mapping[torch.dtype, Model], latents: list[Tensor], parameters: SamplerParameters
) -> list[Row]:
    """Compare in bfloat16, at few steps where it is emulated."""
    network = models[torch.bfloat16]
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        parameters = replace(parameters, steps=min(parameters.steps, FEW_STEPS))
    return [
        Recipe(models[torch.float64], parameters).measure(RECIPE, latents[:2]),
        Batched(network, parameters).measure(ENGINE_BFLOAT16, latents),
    ]
