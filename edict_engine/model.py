"""A Stable Diffusion checkpoint behind one small interface.

The one place where diffusers and transformers meet the rest of the package: foreign shapes, dtypes
and option names end here. ``Model`` is not locked; the engine calls it from one thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from edict_engine import numerics
from edict_engine.attention import Control, RowControl, share_tokens
from edict_engine.attention_processor import control_attention
from edict_engine.calls import Batched, Remembering
from edict_engine.checkpoint import Checkpoint, find_checkpoint, read_json
from edict_engine.compiled import Compiled
from edict_engine.conditioning import Conditioning
from edict_engine.errors import ModelNotUsable, PromptTooLong
from edict_engine.families import Family, Networks, find_family
from edict_engine.lora import Adapter, find_adapters, fuse_adapters, revision_with
from edict_engine.parameters import Sizes
from edict_engine.schedule import Schedule
from edict_engine.transfers import move
from edict_engine.vae import tile_vae, vae_precision

#: Prompts whose embeddings are kept. One of SD 1.x takes 77 · 768 · 2 bytes = 118 kB.
EMBEDDINGS_KEPT = 256

#: Distance of the points that image latents lie at. Far below what a VAE resolves, and far above
#: the 2^-33 that the sampler's integers may be off by.
LATENT_GRID = 2.0**-20


def load_model(
    source: str | Path,
    *,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.bfloat16,
    vae_dtype: torch.dtype = torch.float32,
    adapters: Sequence[Adapter] = (),
    name: str | None = None,
    vae_tile: int | None = None,
    auxiliary_batch: int = 1,
    compiler: str | None = None,
    local_files_only: bool = False,
) -> "Model":
    """Load "demo", a folder or a hub id; safetensors only, and never any code.

    ``dtype`` is the denoiser's precision and T5's; CLIP's text encoders, run once a prompt, have at
    least float32. ``vae_dtype``; a VAE that overflows in float16 gets float32 instead (see
    ``vae``). On CUDA, ``numerics.make_deterministic`` is called.

    ``adapters`` are fused into the weights, and ``revision`` is that of the checkpoint without
    them (see ``lora``). ``name``: what to call the model; default: ``source``. ``vae_tile``: the
    side, in pixels, of the tiles in which the VAE runs larger images. ``auxiliary_batch``: how many
    images or prompts the VAE and the text encoders are given at once, idle rows included (see
    ``calls``). ``compiler``: the backend of ``torch.compile`` for the denoiser, such as "inductor";
    None: it runs as it is.

    Raises ``ModelNotFound``, ``ModelNotUsable`` or ``ParameterError``, with what to do.
    """
    device = torch.device(device)
    if device.type == "cuda":
        numerics.make_deterministic()
    checkpoint = find_checkpoint(source, revision=revision, local_files_only=local_files_only)
    config = read_json(checkpoint.folder / "scheduler" / "scheduler_config.json")
    index = read_json(checkpoint.folder / "model_index.json")
    kind = find_family(index)
    schedule = kind.schedule.from_config(config)
    found = find_adapters(adapters, local_files_only=local_files_only)
    vae_dtype = vae_precision(checkpoint.folder, vae_dtype)
    networks = _load_networks(kind, index, checkpoint.folder, dtype, vae_dtype)
    family = kind(networks, index)
    fuse_adapters(family, found)
    tile_vae(networks.vae, vae_tile)
    place(family, device)
    named = replace(
        checkpoint,
        name=name or checkpoint.name,
        revision=revision_with(checkpoint.revision, found),
    )
    return Model(named, schedule, family, compiler, auxiliary_batch)


class Model:
    """A loaded checkpoint.

    ``name`` is the source it was loaded from, ``revision`` names its exact contents, ``schedule``
    is its noise schedule, ``max_tokens`` the longest prompt. Methods return tensors on ``device``,
    and pixels on the CPU. ``encode_rows``, ``decode_rows`` and ``embed_rows`` do for a batch what
    ``encode``, ``decode`` and ``embed`` do for a row, to the last bit; the latest prompts are kept.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        schedule: Schedule,
        family: Family,
        compiler: str | None = None,
        auxiliary_batch: int = 1,
    ) -> None:
        networks = family.networks
        self.name = checkpoint.name
        self.revision = checkpoint.revision
        self.schedule = schedule
        self._family = family
        self._networks = networks
        self.device: torch.device = networks.denoiser.device
        self.dtype: torch.dtype = networks.denoiser.dtype
        self.latent_channels: int = networks.vae.config.latent_channels
        self.vae_factor: int = 2 ** (len(networks.vae.config.block_out_channels) - 1)
        self.max_tokens: int = min(limit for _, limit in family.tokenizers)
        shape = self.latent_shape(self.default_size, self.default_size)
        self._compiled = (
            None if compiler is None else Compiled(self._predict, compiler, shape, self.device)
        )
        self.encode_rows = Batched(self._encode, auxiliary_batch)
        self.decode_rows = Batched(self._decode, auxiliary_batch)
        self.embed_rows = Remembering(self._embed, auxiliary_batch, kept=EMBEDDINGS_KEPT)

    @property
    def pixel_factor(self) -> int:
        """Image sides must be multiples of this.

        The VAE divides them by ``vae_factor``, and the denoiser what is left by a number of its
        own, each time without a remainder.
        """
        return self.vae_factor * self._family.latent_multiple

    @property
    def largest_side(self) -> int | None:
        """The longest side of an image, in pixels, if there is one."""
        side = self._family.largest_latent
        return None if side is None else side * self.vae_factor

    @property
    def controls_attention(self) -> bool:
        """Whether edits may have attention control."""
        return self._family.controls_attention

    @property
    def takes_sizes(self) -> bool:
        """Whether ``tell_sizes`` says anything to the network."""
        return self._family.takes_sizes

    @property
    def default_size(self) -> int:
        """Side, in pixels, of the square images that the model was trained on."""
        side: int = self._networks.denoiser.config.sample_size
        return side * self.vae_factor

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return (C, H, W) of the latent of an image of ``height`` by ``width`` pixels."""
        return self.latent_channels, height // self.vae_factor, width // self.vae_factor

    def fingerprint(self, rung: int, latent_shape: tuple[int, int, int]) -> str:
        """Describe what the bits of a result depend on; see ``numerics.fingerprint``."""
        plain = numerics.fingerprint(self.device, self.dtype, rung, latent_shape)
        how = self._compiled and self._compiled.how(rung, latent_shape)
        vae = self._networks.vae
        tile = vae.tile_sample_min_size if vae.use_tiling else None
        width = self.encode_rows.width
        batch = None if width == 1 else width
        return numerics.extended(plain, compiled=how, vae_tile=tile, auxiliary_batch=batch)

    @property
    def vae_dtype(self) -> torch.dtype:
        """The VAE's precision: float32 where the one asked for would overflow."""
        dtype: torch.dtype = self._networks.vae.dtype
        return dtype

    @property
    def controls_apart(self) -> bool:
        """Whether rows under attention control need batches of their own (see ``compiled``)."""
        return self._compiled is not None

    @property
    def not_compiled(self) -> Mapping[int, str]:
        """Row counts that a compiler was asked for and not used, and why."""
        return self._compiled.reasons if self._compiled else {}

    def embed(self, prompt: str) -> Conditioning:
        """Return the family's embedding of ``prompt``, of the denoiser's dtype.

        Raises ``PromptTooLong``.
        """
        return self.embed_rows([prompt])[0]

    @torch.inference_mode()
    def _embed(self, prompts: Sequence[str]) -> list[Conditioning]:
        tokens = tuple(
            torch.tensor(
                [_tokenize(prompt, tokenizer, limit) for prompt in prompts], device=self.device
            )
            for tokenizer, limit in self._family.tokenizers
        )
        embedded = self._family.embed(prompts, tokens)
        pooled = None if embedded.pooled is None else embedded.pooled.to(self.dtype)
        return Conditioning(embedded.hidden.to(self.dtype), pooled, embedded.sizes).split()

    def tell_sizes(self, prompt: Conditioning, sizes: Sizes) -> Conditioning:
        """Add to an embedded ``prompt`` what SDXL is told of the image's sizes."""
        return self._family.tell_sizes(prompt, sizes)

    def attention_control(self, base_prompt: str, edit_prompt: str) -> Control:
        """Return Prompt-to-Prompt's control of a lane with unconditional, base and edit rows.

        Raises ``PromptTooLong``.
        """
        tokenizer, limit = self._family.tokenizers[0]
        base, edit = (_tokenize(each, tokenizer, limit) for each in (base_prompt, edit_prompt))
        tokens = share_tokens(base, edit)
        return Control(source=1, target=2, tokens=tokens.to(self.device))

    def encode(self, pixels: Tensor) -> Tensor:
        """Return the latent of float32 ``pixels`` (3, H, W) in [-1, 1], float64 (C, h, w).

        It is the posterior's mode, so the same image always has the same latent, less the
        checkpoint's shift where it has one, times its scaling factor.
        """
        return self.encode_rows([pixels])[0]

    @torch.inference_mode()
    def _encode(self, images: Sequence[Tensor]) -> list[Tensor]:
        vae = self._networks.vae
        pixels = move(torch.stack(list(images)), self.device).to(vae.dtype)
        mode = vae.encode(pixels).latent_dist.mode().to(torch.float64)
        return list(_on_grid((mode - self._latent_shift) * vae.config.scaling_factor))

    def decode(self, latent: Tensor) -> Tensor:
        """Return the pixels, float32 (3, H, W) around [-1, 1], of a scaled ``latent`` (C, h, w).

        A latent that went through the sampler's integers decodes to the very bits that the one
        from ``encode`` decodes to: both lie at the same point of a grid.
        """
        return self.decode_rows([latent])[0]

    @torch.inference_mode()
    def _decode(self, latents: Sequence[Tensor]) -> list[Tensor]:
        vae = self._networks.vae
        scaled = torch.stack([latent.to(self.device) for latent in latents])
        shifted = _on_grid(scaled) / vae.config.scaling_factor + self._latent_shift
        pixels = vae.decode(shifted.to(vae.dtype)).sample.to(torch.float32)
        return list(move(pixels, "cpu"))

    @property
    def _latent_shift(self) -> float:
        return self._networks.vae.config.shift_factor or 0.0

    @torch.inference_mode()
    def denoise(
        self,
        latents: Tensor,
        timesteps: Tensor,
        contexts: Conditioning,
        controls: Sequence[RowControl] = (),
    ) -> Tensor:
        """Return ε(latents (R, C, h, w), timesteps (R,), contexts of R rows), (R, C, h, w).

        Latents of any float dtype; the result has the denoiser's, and at least float32 where ε is
        computed from a network that predicts velocities. With flow matching the velocity itself
        takes ε's place. ``controls`` change the rows that are their targets and no others.
        """
        sample = latents.to(self.dtype, memory_format=numerics.memory_format(self.device))
        if controls:
            output = self._family.predict(sample, timesteps, contexts, {"controls": controls})
        else:
            output = (self._compiled or self._predict)(sample, timesteps, contexts)
        return self.schedule.to_noise(output, latents, timesteps)

    def _predict(self, sample: Tensor, timesteps: Tensor, contexts: Conditioning) -> Tensor:
        return self._family.predict(sample, timesteps, contexts, None)


def _tokenize(prompt: str, tokenizer: Any, limit: int) -> list[int]:
    """Return the ids of ``prompt``, padded to ``limit``; raise ``PromptTooLong``."""
    tokens = len(tokenizer(prompt, verbose=False).input_ids)
    if tokens > limit:
        raise PromptTooLong(tokens, limit)
    ids: list[int] = tokenizer(prompt, padding="max_length", max_length=limit).input_ids
    return ids


def _on_grid(latent: Tensor) -> Tensor:
    return (latent.to(torch.float64) / LATENT_GRID).round() * LATENT_GRID


def _load_networks(
    family: type[Family],
    index: Mapping[str, Any],
    folder: Path,
    dtype: torch.dtype,
    vae_dtype: torch.dtype,
) -> Networks:
    import diffusers  # takes seconds to import
    import transformers

    # At least float32, and float64 for a float64 denoiser; but T5 has 5 billion weights.
    text_dtype = torch.promote_types(dtype, torch.float32)
    text_dtypes = {"text_encoder_3": dtype}
    parts: dict[str, Any] = {}
    try:
        for part in family.components(index):
            kinds = family.classes[part]
            library = family.libraries.get(part)
            if library is None:
                parts[part] = getattr(transformers, kinds[0]).from_pretrained(folder / part)
            elif library == "transformers":
                kind = getattr(transformers, kinds[0])
                precision = text_dtypes.get(part, text_dtype)
                parts[part] = _load(kind, folder / part, dtype=precision)
            else:
                kind = getattr(diffusers, kinds[0])
                precision = vae_dtype if part == "vae" else dtype
                parts[part] = _load(kind, folder / part, torch_dtype=precision)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelNotUsable(
            f"{folder} cannot be loaded ({error}): copy the model again"
        ) from error
    return Networks(**parts)


def place(family: Family, device: torch.device) -> None:
    """Move the networks to ``device``, ready to run."""
    networks = family.networks
    for network in networks.all:
        network.to(device).eval().requires_grad_(False)
    networks.denoiser.to(memory_format=numerics.memory_format(device))
    if family.controls_attention:
        control_attention(networks.denoiser)


def _load(kind: Any, folder: Path, **dtype: torch.dtype) -> Any:
    """Load one network; unlike the libraries, refuse weights that would stay random."""
    network, report = kind.from_pretrained(
        folder, use_safetensors=True, local_files_only=True, output_loading_info=True, **dtype
    )
    if missing := sorted(report["missing_keys"]):
        raise ModelNotUsable(
            f"the weights in {folder} lack {len(missing)} tensors, {missing[0]} among them: "
            "copy the model again"
        )
    return network
