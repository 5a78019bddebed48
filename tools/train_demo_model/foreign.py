"""Diffusers' classes, typed as `Any` here and nowhere else: their own types hold no checking."""

from typing import Any

import diffusers
from diffusers.models.resnet import ResnetBlock2D

AutoencoderKL: Any = diffusers.AutoencoderKL
UNet2DConditionModel: Any = diffusers.UNet2DConditionModel
DDIMScheduler: Any = diffusers.DDIMScheduler
StableDiffusionPipeline: Any = diffusers.StableDiffusionPipeline

#: An autoencoder as diffusers made it.
Autoencoder = Any

__all__ = [
    "Autoencoder",
    "AutoencoderKL",
    "DDIMScheduler",
    "ResnetBlock2D",
    "StableDiffusionPipeline",
    "UNet2DConditionModel",
]
