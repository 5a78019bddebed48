"""What a model family is: its components, how it reads a prompt, and how its denoiser is asked."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from edict_engine.conditioning import Conditioning
from edict_engine.errors import ModelNotUsable
from edict_engine.parameters import Sizes
from edict_engine.schedule import NoiseSchedule, Schedule


@dataclass(frozen=True)
class Networks:
    """The loaded components, of the classes in ``Family.classes``; None where there is none."""

    tokenizer: Any
    text_encoder: Any
    vae: Any
    unet: Any = None
    transformer: Any = None
    tokenizer_2: Any = None
    text_encoder_2: Any = None
    tokenizer_3: Any = None
    text_encoder_3: Any = None

    @property
    def denoiser(self) -> Any:
        """The network that is asked at every turn."""
        return self.transformer if self.unet is None else self.unet

    @property
    def all(self) -> tuple[Any, ...]:
        """Every network that there is."""
        encoders = (self.text_encoder, self.text_encoder_2, self.text_encoder_3)
        networks = (*encoders, self.denoiser, self.vae)
        return tuple(network for network in networks if network is not None)


class Family(ABC):
    """One family's side of a checkpoint; ``index`` is its ``model_index.json``.

    ``pipeline``: diffusers' class for it, whose loader reads LoRA adapters. ``classes``: what each
    component must be. ``libraries``: where those with weights come from.
    ``optional``: components that a checkpoint may be without. ``schedule``: how its scheduler is
    read. ``controls_attention``: whether edits may have attention control. ``takes_sizes``: whether
    its denoiser is told the sizes of ``SamplerParameters``.
    """

    classes: ClassVar[Mapping[str, tuple[str, ...]]]
    libraries: ClassVar[Mapping[str, str]]
    pipeline: ClassVar[str]
    optional: ClassVar[frozenset[str]] = frozenset()
    schedule: ClassVar[type[Schedule]] = NoiseSchedule
    controls_attention: ClassVar[bool] = True
    takes_sizes: ClassVar[bool] = False

    def __init__(self, networks: Networks, index: Mapping[str, Any]) -> None:
        self.networks = networks
        self.index = index
        self.check()

    @classmethod
    def components(cls, index: Mapping[str, Any]) -> list[str]:
        """Name the components that the checkpoint of this ``index`` must have."""
        absent = {name for name in cls.optional if (index.get(name) or (None, None))[1] is None}
        return [name for name in cls.classes if name not in absent]

    @property
    def tokenizers(self) -> list[tuple[Any, int]]:
        """Each tokenizer, and how many tokens it makes of a prompt."""
        tokenizer, encoder = self.networks.tokenizer, self.networks.text_encoder
        limit = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
        every = (tokenizer, self.networks.tokenizer_2)
        return [(each, limit) for each in every if each is not None]

    @property
    def latent_multiple(self) -> int:
        """What the sides of a latent must be multiples of: a UNet halves it between its blocks."""
        multiple: int = 2 ** (len(self.networks.unet.config.block_out_channels) - 1)
        return multiple

    @property
    def largest_latent(self) -> int | None:
        """The longest side of a latent that the denoiser takes, if it has one."""
        return None

    def tell_sizes(self, prompt: Conditioning, sizes: Sizes) -> Conditioning:  # noqa: ARG002
        """Return ``prompt`` with ``sizes`` (see ``SamplerParameters``) where ``takes_sizes``."""
        return prompt

    @abstractmethod
    def check(self) -> None:
        """Raise ``ModelNotUsable`` where the parts do not fit each other."""

    @abstractmethod
    def embed(self, prompts: Sequence[str], tokens: tuple[Tensor, ...]) -> Conditioning:
        """Embed a batch of R prompts; ``tokens`` are their ids, int64 (R, L), by each tokenizer.

        The parts have the text encoders' dtype.
        """

    @abstractmethod
    def predict(
        self,
        sample: Tensor,
        timesteps: Tensor,
        contexts: Conditioning,
        attention: dict[str, Any] | None,
    ) -> Tensor:
        """Return what the denoiser says of ``sample`` (R, C, h, w) at ``timesteps`` (R,)."""


def check_channels(networks: Networks) -> None:
    """Raise ``ModelNotUsable`` unless denoiser and VAE agree on a latent and nothing more."""
    denoiser, latent_channels = networks.denoiser.config, networks.vae.config.latent_channels
    if (denoiser.in_channels, denoiser.out_channels) != (latent_channels, latent_channels):
        name = "UNet" if networks.transformer is None else "transformer"
        raise ModelNotUsable(
            f"the {name} takes {denoiser.in_channels} channels and the VAE's latents have "
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
