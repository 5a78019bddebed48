"""The autoencoder: trained for edges, then given latents that a diffusion model likes.

It is trained twice. At first whole, until its latents are good; then the decoder alone, much
longer, while the denoiser can already learn from the latents, which stay as they are.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .dataset import Pictures
from .foreign import Autoencoder, AutoencoderKL
from .initial import let_through
from .recipe import Recipe
from .training import Training, draw, mixed_precision

SCALING = 0.18215
KL_WEIGHT = 1e-4
#: With this log variance the encoder's "sample" is its mean.
CERTAIN = -12.0
#: The log variance that training starts with.
QUIET = -6.0


def build(recipe: Recipe) -> Autoencoder:
    """Make the untrained network."""
    shape = recipe.vae_shape
    levels = len(shape.channels)
    network = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=shape.channels,
        layers_per_block=1,
        latent_channels=shape.latent_channels,
        norm_num_groups=shape.groups,
        sample_size=recipe.size,
        scaling_factor=SCALING,
        # A sixth of the time, and nothing to be seen for it at this size.
        mid_block_add_attention=False,
    )
    let_through(network)
    with torch.no_grad():
        # Latents start with little noise: at diffusers' own start it drowns them.
        network.quant_conv.weight[shape.latent_channels :] = 0
        network.quant_conv.bias[shape.latent_channels :] = QUIET
    return network


def training(
    recipe: Recipe, pictures: Pictures, folder: Path, device: torch.device
) -> Training[Any]:
    """Set the training up, or take it up where a checkpoint left it."""
    torch.manual_seed(recipe.seed)
    network = build(recipe).to(device)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        generator = draw(recipe.seed + 1, step)
        originals = _batch(pictures.pixels, recipe.vae.batch, generator).to(device)
        return vae_loss(network, originals, generator)

    return Training(network, loss, recipe.vae, folder / "vae.safetensors", digest(recipe))


def decoder_training(
    recipe: Recipe, network: Autoencoder, pictures: Pictures, latents: Tensor, folder: Path
) -> Training[Any]:
    """Set the second training of the decoder up, or take it up where a checkpoint left it."""
    decoder = nn.ModuleDict(
        {"post_quant_conv": network.post_quant_conv, "decoder": network.decoder}
    )

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        generator = draw(recipe.seed + 3, step)
        chosen = torch.randint(len(latents), (recipe.decoder.batch,), generator=generator).sort()[0]
        originals = to_tensor(pictures.pixels[chosen.numpy()]).to(network.device)
        with mixed_precision(network.device):
            known = latents[chosen].float().to(network.device) / SCALING
            decoded = network.decode(known).sample
        return pixel_loss(decoded, originals)

    checkpoint = folder / "decoder.safetensors"
    return Training(decoder, loss, recipe.decoder, checkpoint, decoder_digest(recipe))


def decoder_digest(recipe: Recipe) -> str:
    """Name what the finished autoencoder depends on."""
    return f"{digest(recipe)}-{recipe.digest('decoder')}"


def digest(recipe: Recipe) -> str:
    """Name what the autoencoder's latents depend on."""
    return recipe.digest("seed", "size", "held_out", "variants", "captions", "vae_shape", "vae")


def vae_loss(
    network: Autoencoder, originals: Tensor, generator: torch.Generator
) -> tuple[Tensor, dict[str, float]]:
    """Compare pixels and, so that edges stay sharp, the differences between neighbours."""
    with mixed_precision(originals.device):
        posterior = network.encode(originals).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator).to(originals.device)
        decoded = network.decode(posterior.mean + posterior.std * noise).sample
    loss, figures = pixel_loss(decoded, originals)
    kl = posterior.kl().float().mean() / posterior.mean[0].numel()
    return loss + KL_WEIGHT * kl, figures | {"kl": kl.item()}


def pixel_loss(decoded: Tensor, originals: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Measure what is lost of the pixels and of the edges between them."""
    error = decoded.float() - originals
    squared = error.pow(2).mean()
    loss = error.abs().mean() + 4 * squared + 0.5 * _edges(error)
    return loss, {"loss": loss.item(), "psnr": -10 * np.log10(squared.item() / 4)}


def _edges(error: Tensor) -> Tensor:
    across = (error[..., 1:] - error[..., :-1]).abs().mean()
    down = (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    return across + down


def _batch(pixels: NDArray[np.uint8], size: int, generator: torch.Generator) -> Tensor:
    chosen = torch.randint(len(pixels), (size,), generator=generator).numpy()
    batch = to_tensor(pixels[np.sort(chosen)])
    flips = torch.rand(size, generator=generator) < 0.5
    return torch.where(flips.view(-1, 1, 1, 1), batch.flip(-1), batch)


def to_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """Turn bytes (n, h, w, 3) into a tensor (n, 3, h, w) of -1..1."""
    return torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pixels(pictures: Tensor) -> NDArray[np.uint8]:
    """Turn a tensor of -1..1 into bytes."""
    scaled = ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return np.asarray(scaled.permute(0, 2, 3, 1).cpu().numpy())


@torch.no_grad()
def encode(
    network: Autoencoder, pixels: NDArray[np.uint8], tick: Callable[[int], None] = lambda _: None
) -> Tensor:
    """Encode pictures to scaled latents, on the network's device and in batches."""
    parts = []
    for start in range(0, len(pixels), 64):
        batch = to_tensor(pixels[start : start + 64]).to(network.device)
        with mixed_precision(network.device):
            latent = network.encode(batch).latent_dist.mode()
        parts.append(latent.float().cpu() * SCALING)
        tick(len(batch))
    return torch.cat(parts)


@torch.no_grad()
def whiten(network: Autoencoder, pixels: NDArray[np.uint8]) -> None:
    """Make latents zero in mean, one in variance and uncorrelated; pictures stay the same.

    The two 1x1 convolutions around the latents take the linear map and its inverse.
    """
    latents = encode(network, pixels).div(SCALING).permute(0, 2, 3, 1)
    flat = latents.reshape(-1, latents.shape[-1]).double()
    mean, covariance = flat.mean(0), torch.cov(flat.T)
    values, vectors = torch.linalg.eigh(covariance)
    forward = vectors @ torch.diag(values.rsqrt()) @ vectors.T / SCALING
    _fold_in(network, forward, torch.linalg.inv(forward), mean)


def _fold_in(network: Autoencoder, forward: Tensor, back: Tensor, mean: Tensor) -> None:
    device = network.device
    forward, back, mean = (t.float().to(device) for t in (forward, back, mean))
    count = len(mean)
    inner, outer = network.quant_conv, network.post_quant_conv
    inner.weight[:count, :, 0, 0] = forward @ inner.weight[:count, :, 0, 0]
    inner.bias[:count] = forward @ (inner.bias[:count] - mean)
    inner.weight[count:] = 0
    inner.bias[count:] = CERTAIN
    outer.bias += outer.weight[:, :, 0, 0] @ mean
    outer.weight[:, :, 0, 0] = outer.weight[:, :, 0, 0] @ back
