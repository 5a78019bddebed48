"""How a checkpoint's VAE is run: in which precision, and whole or in tiles.

What a large image takes is memory, which grows with its area and with the batch's width (see
``calls``); in tiles it stays that of one tile of each image. Tiles overlap and are blended, so the
latent of a tiled image is not that of the whole one, but a latent of the image all the same: the
tile's side is part of an inversion's fingerprint.
"""

from pathlib import Path
from typing import Any

import torch

from edict_engine.checkpoint import read_json
from edict_engine.errors import ParameterError

#: A quarter of a tile overlaps the next, in whole latent pixels.
OVERLAP = 4


def vae_precision(folder: Path, wanted: torch.dtype) -> torch.dtype:
    """Return ``wanted``, or float32 where the VAE in ``folder`` would overflow in float16.

    That is what diffusers does: the config's ``force_upcast`` says whether it would, and a config
    without it is taken to say so.
    """
    force_upcast = read_json(folder / "vae" / "config.json").get("force_upcast", True)
    return torch.float32 if wanted == torch.float16 and force_upcast else wanted


def tile_vae(vae: Any, pixels: int | None) -> None:
    """Run images wider or higher than ``pixels`` in square tiles of that side; None: whole.

    Raises ``ParameterError`` unless ``pixels`` divides into overlaps of whole latent pixels.
    """
    if pixels is None:
        return
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    multiple = factor * OVERLAP
    if pixels < multiple or pixels % multiple:
        raise ParameterError(
            f"VAE tiles have a side of {pixels} pixels and this model takes multiples of "
            f"{multiple}: give {max(round(pixels / multiple), 1) * multiple}"
        )
    vae.enable_tiling()
    vae.tile_sample_min_size = pixels
    vae.tile_latent_min_size = pixels // factor
    vae.tile_overlap_factor = 1 / OVERLAP
