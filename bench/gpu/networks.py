"""Stable Diffusion 1.5 with random weights, made in memory: speed does not depend on weights.

The structure is that of the published ``config.json`` files. The tokenizer is the small model's,
for a vocabulary is nothing that can be made up; the text encoder's table of embeddings is as much
smaller. ``tiny`` is the same made narrow, for trying the measurement itself on a CPU.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edict_engine import numerics
from edict_engine.checkpoint import DEMO_FOLDER, Checkpoint
from edict_engine.families import Family, Networks
from edict_engine.families.stable_diffusion import StableDiffusion
from edict_engine.model import Model, place
from edict_engine.schedule import NoiseSchedule

Config = Mapping[str, Any]

SEED = 0
#: Tokens of a prompt.
PROMPT = 77
SCHEDULER: Config = {
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
}


@dataclass(frozen=True)
class Blueprint:
    """The structure of a checkpoint, and the side in pixels of the images it is made for."""

    unet: Config
    vae: Config
    text_encoder: Config
    size: int

    @property
    def vae_factor(self) -> int:
        """Image pixels along the side of a latent's."""
        factor: int = 2 ** (len(self.vae["block_out_channels"]) - 1)
        return factor

    @property
    def pixel_factor(self) -> int:
        """What the sides of images must be multiples of: the UNet halves latents, too."""
        factor: int = self.vae_factor * 2 ** (len(self.unet["block_out_channels"]) - 1)
        return factor


SD15 = Blueprint(
    unet={
        "attention_head_dim": 8,
        "block_out_channels": (320, 640, 1280, 1280),
        "cross_attention_dim": 768,
        "down_block_types": (*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
        "layers_per_block": 2,
        "up_block_types": ("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
    },
    vae={
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "layers_per_block": 2,
        "scaling_factor": 0.18215,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
    },
    text_encoder={
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "projection_dim": 768,
    },
    size=512,
)
TINY = Blueprint(
    unet={
        "attention_head_dim": 2,
        "block_out_channels": (8, 16),
        "cross_attention_dim": 16,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    },
    vae={
        "block_out_channels": (4, 8),
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "scaling_factor": 0.18215,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
    },
    text_encoder={
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "projection_dim": 16,
    },
    size=32,
)
BLUEPRINTS = {"sd15": SD15, "tiny": TINY}


def build(blueprint: Blueprint, size: int, device: torch.device, dtype: torch.dtype) -> Family:
    """Make the networks on ``device``, for images of ``size`` pixels, as ``load_model`` does.

    The weights are drawn in float32 and then rounded, so they are the same in every ``dtype``.
    """
    import diffusers  # takes seconds to import
    import transformers

    # It would warn that a UNet is cast, though it names no part that should not be.
    diffusers.utils.logging.set_verbosity_error()
    if device.type == "cuda":
        numerics.make_deterministic()
    tokenizer = transformers.CLIPTokenizer.from_pretrained(DEMO_FOLDER / "tokenizer")
    tokenizer.model_max_length = PROMPT
    text = transformers.CLIPTextConfig(
        **blueprint.text_encoder,
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(SEED)
    with device:
        networks = Networks(
            tokenizer=tokenizer,
            text_encoder=transformers.CLIPTextModel(text),
            vae=diffusers.AutoencoderKL(**blueprint.vae, latent_channels=4, sample_size=size),
            unet=make_unet(blueprint, size),
        )
    networks.text_encoder.to(torch.promote_types(dtype, torch.float32))
    networks.unet.to(dtype)
    family = StableDiffusion(networks, {})
    place(family, device)
    return family


def make_unet(blueprint: Blueprint, size: int) -> Any:
    """Make the UNet alone, on torch's device of the moment."""
    from diffusers import UNet2DConditionModel  # takes seconds to import

    return UNet2DConditionModel(**blueprint.unet, sample_size=size // blueprint.vae_factor)


def as_model(family: Family, compiler: str | None = None) -> Model:
    """Put ``family`` behind the engine's interface; several models may share one."""
    checkpoint = Checkpoint("random weights", Path(), f"seed {SEED}")
    return Model(checkpoint, NoiseSchedule.from_config(SCHEDULER), family, compiler)
