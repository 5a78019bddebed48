"""The denoiser and its text encoder, trained together on latents and captions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .foreign import UNet2DConditionModel
from .recipe import Recipe
from .tokenizer import token_ids
from .training import Training, draw, mixed_precision

TIMESTEPS = 1000
BETAS = (0.00085, 0.012)


def alphas_cumprod() -> Tensor:
    """Give Stable Diffusion's noise schedule ("scaled linear")."""
    betas = torch.linspace(BETAS[0] ** 0.5, BETAS[1] ** 0.5, TIMESTEPS, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float()


class Denoiser(nn.Module):
    """The two networks as one module, which is what is trained, averaged and saved."""

    def __init__(self, recipe: Recipe, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.unet = _unet(recipe)
        self.text = _text(recipe, tokenizer)

    def forward(self, latents: Tensor, times: Tensor, ids: Tensor) -> Tensor:
        """Predict the noise (or v) of each row; equal captions are encoded once."""
        unique, which = torch.unique(ids, dim=0, return_inverse=True)
        words = self.text(unique).last_hidden_state[which]
        predicted: Tensor = self.unet(latents, times, words).sample
        return predicted


def _unet(recipe: Recipe) -> Any:
    shape = recipe.unet_shape
    return UNet2DConditionModel(
        sample_size=recipe.size // 2 ** (len(recipe.vae_shape.channels) - 1),
        in_channels=recipe.vae_shape.latent_channels,
        out_channels=recipe.vae_shape.latent_channels,
        block_out_channels=shape.channels,
        layers_per_block=1,
        norm_num_groups=16,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=shape.text_width,
        # Diffusers' misnomer: the number of heads.
        attention_head_dim=shape.heads,
        # Self-attention between all pixels of the finest level is a third of a step's time on a
        # CPU; the coarser levels see the whole picture anyway.
        only_cross_attention=(True, False, False),
    )


def _text(recipe: Recipe, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    shape = recipe.unet_shape
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape.text_width,
            intermediate_size=4 * shape.text_width,
            num_hidden_layers=shape.text_layers,
            num_attention_heads=shape.text_heads,
            max_position_embeddings=shape.tokens,
            projection_dim=shape.text_width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            hidden_act="quick_gelu",
        )
    )


@dataclass(frozen=True)
class Captioned:
    """Latents, and for each the row of its caption in `ids`; the last row is the empty caption."""

    latents: Tensor
    ids: Tensor
    row: Tensor

    @staticmethod
    def of(latents: Tensor, captions: Sequence[str], tokenizer: CLIPTokenizer) -> "Captioned":
        """Tokenize each different caption once."""
        different = sorted(set(captions))
        place = {text: index for index, text in enumerate(different)}
        rows = torch.tensor([place[text] for text in captions])
        return Captioned(latents, token_ids(tokenizer, [*different, ""]), rows)


@dataclass(frozen=True)
class Step:
    """One batch of the training: noised latents, what to predict, and each row's weight."""

    noised: Tensor
    times: Tensor
    ids: Tensor
    target: Tensor
    weight: Tensor


def make_step(recipe: Recipe, data: Captioned, alphas: Tensor, generator: torch.Generator) -> Step:
    """Draw pictures, drop some captions, add noise."""
    count = recipe.unet.batch
    chosen = torch.randint(len(data.latents), (count,), generator=generator)
    dropped = torch.rand(count, generator=generator) < recipe.captions.empty
    rows = data.row[chosen].where(~dropped, len(data.ids) - 1)
    clean = data.latents[chosen].float()
    # Half of a timestep's weight is how often it is drawn: the gradient is the same on average
    # and steadier than with weights alone.
    weights = loss_weights(recipe, alphas).sqrt()
    times = torch.multinomial(weights, count, replacement=True, generator=generator)
    noise = torch.randn(clean.shape, generator=generator)
    alpha = alphas[times].view(-1, 1, 1, 1)
    noised = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
    target = noise
    if recipe.prediction == "v_prediction":
        target = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
    return Step(noised, times, data.ids[rows], target, weights[times])


def loss_weights(recipe: Recipe, alphas: Tensor) -> Tensor:
    """Weight timesteps by min(1/alphabar, limit), one on average.

    The plain loss on noise nearly ignores high noise, where colour and style are decided. An
    error of v is one of noise divided by sqrt(alphabar): the factor makes both losses the same.
    """
    weights = (1 / alphas).clamp(max=recipe.weight_limit)
    weights = weights / weights.mean()
    return weights * alphas if recipe.prediction == "v_prediction" else weights


def training(
    recipe: Recipe,
    data: Captioned,
    tokenizer: CLIPTokenizer,
    folder: Path,
    device: torch.device,
) -> Training[Denoiser]:
    """Set the training up, or take it up where a checkpoint left it."""
    torch.manual_seed(recipe.seed)
    module = Denoiser(recipe, tokenizer).to(device)
    if device.type == "cpu":
        # The backward pass of the fused attention is slow on CPUs; the plain one computes the same.
        module.unet.set_attn_processor(AttnProcessor())
    alphas = alphas_cumprod()

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        return denoising_loss(
            module, make_step(recipe, data, alphas, draw(recipe.seed + 2, step)), device
        )

    return Training(module, loss, recipe.unet, folder / "diffusion.safetensors", digest(recipe))


def digest(recipe: Recipe) -> str:
    """Name what the denoiser depends on: everything but the second training of the decoder."""
    return recipe.digest(*(name for name in Recipe.model_fields if name != "decoder"))


def denoising_loss(
    module: Denoiser, step: Step, device: torch.device
) -> tuple[Tensor, dict[str, float]]:
    """Compute the weighted error of one batch."""
    noised, times, ids = (t.to(device) for t in (step.noised, step.times, step.ids))
    with mixed_precision(device):
        predicted = module(noised, times, ids)
    errors = (predicted.float() - step.target.to(device)).pow(2).mean((1, 2, 3))
    loss = (errors * step.weight.to(device)).mean()
    return loss, {"loss": loss.item(), "plain": errors.mean().item()}
