"""Stable Diffusion 3: flow matching with a transformer and up to three text encoders
(Esser et al., 2024, arXiv 2403.03206).

The transformer attends to image and prompt at once. The prompt is a row of tokens: the last but one
hidden states of both CLIP encoders side by side, filled up with zeros to T5's width, and after them
those of T5. Where a checkpoint comes without T5, zeros stand for it, as in training when it was
dropped. Added to the timestep embedding are the pooled embeddings of both CLIP encoders.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from edict_engine.conditioning import Conditioning
from edict_engine.errors import ModelNotUsable
from edict_engine.families.base import Family, check_channels, check_vocabulary
from edict_engine.flow_schedule import FlowSchedule

#: Tokens of T5, as diffusers' pipeline has by default: another number is another model.
T5_TOKENS = 256
#: T5's embeddings are as many as its tokens, rounded up to a multiple of this.
T5_VOCABULARY_MULTIPLE = 128


class StableDiffusion3(Family):
    """Stable Diffusion 3 and 3.5."""

    pipeline: ClassVar = "StableDiffusion3Pipeline"
    classes: ClassVar = {
        "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "tokenizer_3": ("T5Tokenizer", "T5TokenizerFast"),
        "text_encoder": ("CLIPTextModelWithProjection",),
        "text_encoder_2": ("CLIPTextModelWithProjection",),
        "text_encoder_3": ("T5EncoderModel",),
        "transformer": ("SD3Transformer2DModel",),
        "vae": ("AutoencoderKL",),
    }
    libraries: ClassVar = {
        "text_encoder": "transformers",
        "text_encoder_2": "transformers",
        "text_encoder_3": "transformers",
        "transformer": "diffusers",
        "vae": "diffusers",
    }
    optional: ClassVar = frozenset({"tokenizer_3", "text_encoder_3"})
    schedule: ClassVar = FlowSchedule
    controls_attention: ClassVar = False

    @property
    def tokenizers(self) -> list[tuple[Any, int]]:
        """CLIP's two and T5's, if there is one."""
        third = self.networks.tokenizer_3
        return [*super().tokenizers, *([] if third is None else [(third, T5_TOKENS)])]

    @property
    def latent_multiple(self) -> int:
        """The side of a patch, in latents."""
        patch: int = self.networks.transformer.config.patch_size
        return patch

    @property
    def largest_latent(self) -> int | None:
        """As far as the embeddings of positions reach."""
        side: int = self.networks.transformer.config.pos_embed_max_size
        return side * self.latent_multiple

    def check(self) -> None:
        """Raise ``ModelNotUsable`` where the parts do not fit each other."""
        networks, config = self.networks, self.networks.transformer.config
        check_channels(networks)
        first, second = networks.text_encoder.config, networks.text_encoder_2.config
        pooled = first.projection_dim + second.projection_dim
        if config.pooled_projection_dim != pooled:
            raise ModelNotUsable(
                f"the transformer takes {config.pooled_projection_dim} pooled numbers and the CLIP "
                f"encoders give {pooled}: choose a Stable Diffusion 3 model"
            )
        if first.hidden_size + second.hidden_size > config.joint_attention_dim:
            raise ModelNotUsable(
                f"the CLIP encoders give {first.hidden_size + second.hidden_size} numbers a token "
                f"and the transformer takes {config.joint_attention_dim}: choose a Stable "
                "Diffusion 3 model"
            )
        check_vocabulary(networks.tokenizer, networks.text_encoder)
        check_vocabulary(networks.tokenizer_2, networks.text_encoder_2)
        self._check_t5()

    def _check_t5(self) -> None:
        tokenizer, encoder = self.networks.tokenizer_3, self.networks.text_encoder_3
        if (tokenizer is None) != (encoder is None):
            raise ModelNotUsable(
                "the model has one of tokenizer_3 and text_encoder_3: give both, or neither to "
                "run without T5"
            )
        if encoder is None:
            return
        width = self.networks.transformer.config.joint_attention_dim
        if encoder.config.d_model != width:
            raise ModelNotUsable(
                f"T5 gives {encoder.config.d_model} numbers a token and the transformer takes "
                f"{width}: choose a Stable Diffusion 3 model"
            )
        unused = encoder.config.vocab_size - len(tokenizer)
        if not 0 <= unused < T5_VOCABULARY_MULTIPLE:
            raise ModelNotUsable(
                f"T5's tokenizer knows {len(tokenizer)} tokens and its encoder "
                f"{encoder.config.vocab_size}: copy the tokenizer_3 folder again"
            )

    def embed(self, prompts: Sequence[str], tokens: tuple[Tensor, ...]) -> Conditioning:
        """Return the tokens of all encoders one after the other, and CLIP's pooled embeddings."""
        networks = self.networks
        first = networks.text_encoder(tokens[0], output_hidden_states=True)
        second = networks.text_encoder_2(tokens[1], output_hidden_states=True)
        clip = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        width = networks.transformer.config.joint_attention_dim
        if networks.text_encoder_3 is None:
            t5 = clip.new_zeros(len(prompts), T5_TOKENS, width)
        else:
            t5 = networks.text_encoder_3(tokens[2]).last_hidden_state
        hidden = torch.cat([pad(clip, (0, width - clip.shape[-1])), t5.to(clip.dtype)], dim=1)
        return Conditioning(hidden, torch.cat([first.text_embeds, second.text_embeds], dim=1))

    def predict(
        self,
        sample: Tensor,
        timesteps: Tensor,
        contexts: Conditioning,
        attention: dict[str, Any] | None,  # noqa: ARG002
    ) -> Tensor:
        """Ask the transformer; it has no attention control."""
        output: Tensor = self.networks.transformer(
            hidden_states=sample,
            timestep=timesteps,
            encoder_hidden_states=contexts.hidden,
            pooled_projections=contexts.pooled,
        ).sample
        return output
