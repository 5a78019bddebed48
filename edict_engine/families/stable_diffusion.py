"""Stable Diffusion 1.x and 2.x: one text encoder, and a UNet that is told its last hidden state.

What the network predicts (noise or velocity) is the business of ``schedule``.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from edict_engine.conditioning import Conditioning
from edict_engine.errors import ModelNotUsable
from edict_engine.families.base import Family, check_channels, check_vocabulary


class StableDiffusion(Family):
    """Stable Diffusion 1.x and 2.x."""

    classes: ClassVar = {
        "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "text_encoder": ("CLIPTextModel",),
        "unet": ("UNet2DConditionModel",),
        "vae": ("AutoencoderKL",),
    }
    libraries: ClassVar = {"text_encoder": "transformers", "unet": "diffusers", "vae": "diffusers"}
    pipeline: ClassVar = "StableDiffusionPipeline"

    def check(self) -> None:
        """Raise ``ModelNotUsable`` where the parts do not fit each other."""
        check_channels(self.networks)
        unet = self.networks.unet.config
        if unet.addition_embed_type is not None or unet.class_embed_type is not None:
            raise ModelNotUsable(
                "the UNet needs more than a prompt: choose a Stable Diffusion 1.x or 2.x model"
            )
        check_vocabulary(self.networks.tokenizer, self.networks.text_encoder)

    def embed(self, prompts: Sequence[str], tokens: tuple[Tensor, ...]) -> Conditioning:  # noqa: ARG002
        """Return the text encoder's last hidden states."""
        return Conditioning(self.networks.text_encoder(tokens[0]).last_hidden_state)

    def predict(
        self,
        sample: Tensor,
        timesteps: Tensor,
        contexts: Conditioning,
        attention: dict[str, Any] | None,
    ) -> Tensor:
        """Ask the UNet."""
        output: Tensor = self.networks.unet(
            sample, timesteps, contexts.hidden, cross_attention_kwargs=attention
        ).sample
        return output
