"""The finished model: a folder in Stable Diffusion's layout, float16, that diffusers loads."""

from pathlib import Path

import torch
from torch import nn
from transformers import CLIPTokenizer

from .diffusion import BETAS, TIMESTEPS, Denoiser
from .foreign import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
from .recipe import Recipe

#: What is shipped with the project must stay small.
LIMIT_BYTES = 16_000_000


def export(
    denoiser: Denoiser, vae: Path, tokenizer: CLIPTokenizer, recipe: Recipe, folder: Path
) -> int:
    """Write the folder; returns the size of its weights in bytes."""
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(vae),
        text_encoder=denoiser.text,
        tokenizer=tokenizer,
        unet=denoiser.unet,
        scheduler=_scheduler(recipe),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for network in (pipeline.vae, pipeline.text_encoder, pipeline.unet):
        # Not diffusers' own `to`, which warns of an empty list of exceptions.
        nn.Module.to(network, torch.float16)
    # Where it was read from is the business of this machine alone.
    pipeline.vae.register_to_config(_name_or_path="")
    pipeline.save_pretrained(folder, safe_serialization=True)
    size = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    if size > LIMIT_BYTES:
        raise ValueError(
            f"the weights take {size:,} bytes and may take {LIMIT_BYTES:,}: "
            "choose fewer channels in the recipe"
        )
    return size


def _scheduler(recipe: Recipe) -> object:
    scheduler: object = DDIMScheduler(
        num_train_timesteps=TIMESTEPS,
        beta_start=BETAS[0],
        beta_end=BETAS[1],
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=recipe.prediction,
    )
    return scheduler
