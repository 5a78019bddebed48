"""What a model family is: its components, how it reads a prompt, and how its UNet is asked."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from edict_engine.conditioning import Conditioning
from edict_engine.errors import ModelNotUsable


@dataclass(frozen=True)
class Networks:
    """The loaded components, of the classes in ``Family.classes``."""

    tokenizer: Any
    text_encoder: Any
    unet: Any
    vae: Any
    tokenizer_2: Any = None
    text_encoder_2: Any = None


class Family(ABC):
    """One family's side of a checkpoint; ``index`` is its ``model_index.json``.

    ``classes``: what each component must be. ``libraries``: where those with weights come from.
    """

    classes: ClassVar[Mapping[str, tuple[str, ...]]]
    libraries: ClassVar[Mapping[str, str]]
    pipeline: ClassVar[str | None] = None
    """diffusers' class for it, whose loader reads LoRA adapters; None: they are not covered."""

    def __init__(self, networks: Networks, index: Mapping[str, Any]) -> None:
        self.networks = networks
        self.index = index
        self.check()

    @abstractmethod
    def check(self) -> None:
        """Raise ``ModelNotUsable`` where the parts do not fit each other."""

    @abstractmethod
    def embed(self, prompt: str, tokens: tuple[Tensor, ...]) -> Conditioning:
        """Embed one prompt; ``tokens`` are its ids, int64 (1, L), from each tokenizer.

        The parts have the text encoders' dtype and no batch dimension.
        """

    @abstractmethod
    def predict(
        self,
        sample: Tensor,
        timesteps: Tensor,
        contexts: Conditioning,
        attention: dict[str, Any] | None,
    ) -> Tensor:
        """Return what the UNet says of ``sample`` (R, C, h, w) at ``timesteps`` (R,)."""


def check_channels(networks: Networks) -> None:
    """Raise ``ModelNotUsable`` unless UNet and VAE agree on a latent and nothing more."""
    unet, latent_channels = networks.unet.config, networks.vae.config.latent_channels
    if (unet.in_channels, unet.out_channels) != (latent_channels, latent_channels):
        raise ModelNotUsable(
            f"the UNet takes {unet.in_channels} channels and the VAE's latents have "
            f"{latent_channels}: inpainting and depth models are not covered"
        )


def check_vocabulary(tokenizer: Any, text_encoder: Any) -> None:
    """Raise ``ModelNotUsable`` unless the tokenizer is the text encoder's.

    transformers falls back to a vocabulary of two tokens where it cannot read the files.
    """
    vocabulary = text_encoder.config.vocab_size
    if len(tokenizer) != vocabulary:
        raise ModelNotUsable(
            f"the tokenizer knows {len(tokenizer)} tokens and the text encoder "
            f"{vocabulary}: copy the tokenizer folder again"
        )
