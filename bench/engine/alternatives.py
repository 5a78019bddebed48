"""What a user would pick instead, with the same UNet and number of steps: diffusers' pipelines.

* *DDIM inversion*: ``StableDiffusionPipeline`` with ``DDIMInverseScheduler`` to invert and
  ``DDIMScheduler`` to edit, from latent to latent, one image at a time and in batches.
* *LEDITS++*: its own inversion and edit of one image. It takes an image, so the VAE is in its
  time; it has no strength, so the steps that it skips stand for that; and its mask, which wants
  attention maps of sizes that the small model does not have, is off. Its code says that latents
  have four channels: where the model's have others, it runs a network and a VAE that are the
  model's in all but that, with random weights, on which its speed does not depend.
* *engine*: inversion and edit by every sampler, latent to latent, in shared batches.

All use classifier-free guidance at one scale, in the inversion too.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from bench.engine.recipe import BASE, EDIT, Batched
from edict_engine.checkpoint import find_checkpoint
from edict_engine.model import Model
from edict_engine.parameters import SamplerParameters
from edict_engine.samplers import SAMPLERS

BATCHES = (1, 2, 4, 8, 16, 32)
#: Samplers that ask once a step in both directions, as DDIM inversion does.
ONE_CALL = ("bdia", "ddim", "o-belm")
#: Of the latents that diffusers' LEDITS++ can edit.
LEDITS_CHANNELS = 4


@dataclass(frozen=True)
class Alternative:
    """Images inverted and edited a second, ``batch`` of them at a time."""

    name: str
    batch: int
    images_per_second: float


def measure(
    source: str, model: Model, parameters: SamplerParameters, latents: list[Tensor]
) -> list[Alternative]:
    """Run diffusers' pipelines and then the engine by each of its samplers."""
    diffusers = Diffusers(source, parameters, len(model.schedule.grid(*length(parameters))))
    rows = [diffusers.ddim(latents[:batch]) for batch in BATCHES if batch <= len(latents)]
    rows.append(diffusers.ledits(model.default_size))
    for name, sampler in SAMPLERS.items():
        seconds = Batched(model, parameters, sampler).measure(name, latents).seconds
        speed = len(latents) / seconds
        rows.append(Alternative(f"engine, {name}", len(latents), speed))
    return rows


def edits_over_ddim(rows: Sequence[Alternative]) -> float | None:
    """Compare the engine's best one-call sampler with DDIM inversion at batch 1, if measured."""
    if not rows:
        return None
    ours = [row.images_per_second for row in rows if row.name.removeprefix("engine, ") in ONE_CALL]
    return max(ours) / rows[0].images_per_second


def length(parameters: SamplerParameters) -> tuple[int, float]:
    """Return what the grid's length depends on."""
    return parameters.steps, parameters.strength


class Diffusers:
    """diffusers' pipelines over the checkpoint ``source``, in float32 on the CPU."""

    def __init__(self, source: str, parameters: SamplerParameters, steps: int) -> None:
        self._folder = find_checkpoint(source, revision=None, local_files_only=True).folder
        self._parameters = parameters
        self._steps = steps

    def ddim(self, latents: list[Tensor]) -> Alternative:
        """Invert and edit all ``latents`` in one batch."""
        from diffusers import DDIMInverseScheduler, DDIMScheduler, StableDiffusionPipeline

        pipeline = self._load(StableDiffusionPipeline)
        kinds: tuple[Any, Any] = (DDIMInverseScheduler, DDIMScheduler)
        inverse, forward = (kind.from_config(pipeline.scheduler.config) for kind in kinds)

        def run(start: Tensor, scheduler: Any, prompt: str) -> Tensor:
            pipeline.scheduler = scheduler
            result: Tensor = pipeline(
                [prompt] * len(start),
                latents=start,
                guidance_scale=self._parameters.guidance,
                num_inference_steps=self._steps,
                output_type="latent",
            ).images
            return result

        start = torch.stack(latents).float()
        seconds = timed(lambda: run(run(start, inverse, BASE), forward, EDIT))
        return Alternative("diffusers, DDIM inversion", len(start), len(start) / seconds)

    def ledits(self, size: int) -> Alternative:
        """Invert and edit one image."""
        from diffusers import DPMSolverMultistepScheduler, LEditsPPPipelineStableDiffusion

        pipeline = with_channels(LEDITS_CHANNELS, self._load(LEditsPPPipelineStableDiffusion))
        scheduler: Any = DPMSolverMultistepScheduler
        pipeline.scheduler = scheduler.from_config(
            pipeline.scheduler.config, algorithm_type="sde-dpmsolver++", solver_order=2
        )
        image = Image.linear_gradient("L").resize((size, size)).convert("RGB")

        def run() -> None:
            pipeline.invert(
                image=image,
                num_inversion_steps=self._parameters.steps,
                skip=1 - self._parameters.strength,
                source_prompt=BASE,
                source_guidance_scale=self._parameters.guidance,
            )
            pipeline(
                editing_prompt=[EDIT],
                edit_guidance_scale=self._parameters.guidance,
                use_intersect_mask=False,
            )

        return Alternative("diffusers, LEDITS++", 1, 1 / timed(run))

    def _load(self, kind: Any) -> Any:
        pipeline = kind.from_pretrained(
            self._folder,
            local_files_only=True,
            use_safetensors=True,
            safety_checker=None,
            dtype=torch.float32,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


def with_channels(channels: int, pipeline: Any) -> Any:
    """Return the pipeline for latents of so many channels, with random weights if it must be."""
    if pipeline.unet.config.in_channels == channels:
        return pipeline
    shapes = {
        "unet": {"in_channels": channels, "out_channels": channels},
        "vae": {"latent_channels": channels},
    }
    made = {
        name: type(part).from_config({**part.config, **shapes[name]}).eval()
        for name, part in pipeline.components.items()
        if name in shapes
    }
    changed = type(pipeline)(**{**pipeline.components, **made}, requires_safety_checker=False)
    changed.set_progress_bar_config(disable=True)
    return changed


def timed(run: Callable[[], object]) -> float:
    """Return the seconds that ``run`` takes, without the libraries' advice on settings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        begun = time.perf_counter()
        run()
        return time.perf_counter() - begun
