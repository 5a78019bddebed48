"""Stable Diffusion XL: two text encoders, and a UNet that is also told sizes (Podell et al., 2023).

The UNet attends to the last but one hidden states of both encoders side by side. Added to its
timestep embedding are the second encoder's projected embedding and six numbers: the original
height and width, the crop's top and left, the target height and width. What the caller leaves open
is the image's own, uncropped.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from edict_engine.conditioning import Conditioning
from edict_engine.errors import ModelNotUsable
from edict_engine.families.base import Family, check_channels, check_vocabulary
from edict_engine.parameters import Sizes

#: Numbers in the micro-conditioning.
SIZES = 6


class StableDiffusionXL(Family):
    """Stable Diffusion XL's base model. The refiner, with one encoder, is another."""

    pipeline: ClassVar = "StableDiffusionXLPipeline"
    classes: ClassVar = {
        "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "text_encoder": ("CLIPTextModel",),
        "text_encoder_2": ("CLIPTextModelWithProjection",),
        "unet": ("UNet2DConditionModel",),
        "vae": ("AutoencoderKL",),
    }
    libraries: ClassVar = {
        "text_encoder": "transformers",
        "text_encoder_2": "transformers",
        "unet": "diffusers",
        "vae": "diffusers",
    }
    takes_sizes: ClassVar = True

    def check(self) -> None:
        """Raise ``ModelNotUsable`` where the parts do not fit each other."""
        check_channels(self.networks)
        unet, second = self.networks.unet.config, self.networks.text_encoder_2.config
        if unet.addition_embed_type != "text_time":
            raise ModelNotUsable(
                f"the UNet's addition_embed_type is {unet.addition_embed_type!r} and that of "
                "Stable Diffusion XL is 'text_time': choose an SDXL base model"
            )
        added = SIZES * unet.addition_time_embed_dim + second.projection_dim
        if unet.projection_class_embeddings_input_dim != added:
            raise ModelNotUsable(
                f"the UNet takes {unet.projection_class_embeddings_input_dim} added numbers and "
                f"gets {added}: choose an SDXL base model (the refiner is not covered)"
            )
        check_vocabulary(self.networks.tokenizer, self.networks.text_encoder)
        check_vocabulary(self.networks.tokenizer_2, self.networks.text_encoder_2)

    def embed(self, prompts: Sequence[str], tokens: tuple[Tensor, ...]) -> Conditioning:
        """Return both encoders' hidden states and the pooled embedding.

        The empty prompt is all zeros where the checkpoint was trained so.
        """
        first = self.networks.text_encoder(tokens[0], output_hidden_states=True)
        second = self.networks.text_encoder_2(tokens[1], output_hidden_states=True)
        hidden = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        pooled = second.text_embeds
        if self.index.get("force_zeros_for_empty_prompt"):
            empty = torch.tensor([not prompt for prompt in prompts], device=hidden.device)
            hidden = hidden.masked_fill(empty[:, None, None], 0)
            pooled = pooled.masked_fill(empty[:, None], 0)
        sizes = torch.full((len(prompts), SIZES), math.nan, device=hidden.device)
        return Conditioning(hidden, pooled, sizes)

    def tell_sizes(self, prompt: Conditioning, sizes: Sizes) -> Conditioning:
        """Return ``prompt`` with the six numbers, float32, NaN where ``sizes`` leaves them open."""
        row = [math.nan if size is None else float(size) for size in sizes]
        return replace(prompt, sizes=torch.tensor(row, device=prompt.hidden.device))

    def predict(
        self,
        sample: Tensor,
        timesteps: Tensor,
        contexts: Conditioning,
        attention: dict[str, Any] | None,
    ) -> Tensor:
        """Ask the UNet; sizes that the contexts leave open (NaN) are the image's own, uncropped."""
        sizes = self._own_sizes(sample)
        if contexts.sizes is not None:
            sizes = torch.where(contexts.sizes.isnan(), sizes, contexts.sizes)
        output: Tensor = self.networks.unet(
            sample,
            timesteps,
            contexts.hidden,
            cross_attention_kwargs=attention,
            added_cond_kwargs={"text_embeds": contexts.pooled, "time_ids": sizes},
        ).sample
        return output

    def _own_sizes(self, sample: Tensor) -> Tensor:
        """Return (R, 6), float32."""
        factor = 2 ** (len(self.networks.vae.config.block_out_channels) - 1)
        height, width = factor * sample.shape[2], factor * sample.shape[3]
        row = [float(height), float(width), 0.0, 0.0, float(height), float(width)]
        return torch.tensor(row, device=sample.device).expand(len(sample), -1)
