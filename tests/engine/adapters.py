"""LoRA files as trainers write them, with random weights."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from edict_engine.model import Model

RANK = 4
PLACES = ("to_q", "to_k", "to_v", "to_out.0", "q_proj", "k_proj", "v_proj", "out_proj")


def write_lora(
    path: Path, model: Model, *, parts: tuple[str, ...] = ("unet", "text_encoder"), seed: int = 0
) -> Path:
    """Write an adapter of every attention of ``model`` in diffusers' layout."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for part in parts:
        for name, module in getattr(model._networks, part).named_modules():
            if name.endswith(PLACES):
                rows, columns = module.weight.shape
                for side, shape in (("A", (RANK, columns)), ("B", (rows, RANK))):
                    values = torch.randn(shape, generator=generator) * 0.3
                    tensors[f"{part}.{name}.lora_{side}.weight"] = values
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, {"format": "pt"})
    return path
