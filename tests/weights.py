"""Small random weights in the places where measures look for those that cannot be shipped."""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn
from torchmetrics.functional.image import lpips as functional
from torchmetrics.image import lpip
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from edict_engine.quality import measures

TOKENIZER = Path(__file__).parent / "reference" / "tiny-sd" / "tokenizer"


def write_clip(folder: Path) -> Path:
    """A small random CLIP."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)
    layers = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {"vocab_size": len(tokenizer), "num_hidden_layers": 1, **layers, **ends}
    vision = {"image_size": 32, "patch_size": 8, "num_hidden_layers": 1, **layers}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _alexnet(*, weights: object) -> nn.Module:
    """AlexNet's convolutions as torchvision lays them out, with random weights."""
    assert weights == "default"
    torch.manual_seed(0)
    pool, relu = nn.MaxPool2d(3, 2), nn.ReLU(inplace=False)
    convolutions = [
        nn.Conv2d(3, 64, 11, 4, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.Conv2d(256, 256, 3, padding=1),
    ]
    one, two, three, four, five = convolutions
    network = nn.Module()
    network.features = nn.Sequential(
        *(one, relu, pool, two, relu, pool, three, relu, four, relu, five, relu, pool)
    )
    return network


def place_lpips(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make this a machine with torchvision and AlexNet's weights in torch hub's cache.

    torchvision's wheels are built for one build of torch, which need not be the one that is here;
    all that torchmetrics takes of it is the network.
    """
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / measures.LPIPS_WEIGHTS).touch()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(folder))
    torchvision = ModuleType("torchvision")
    torchvision.__spec__ = ModuleSpec("torchvision", None)
    torchvision.models = SimpleNamespace(  # type: ignore[attr-defined]
        alexnet=_alexnet, AlexNet_Weights=SimpleNamespace(DEFAULT="default")
    )
    monkeypatch.setitem(sys.modules, "torchvision", torchvision)
    for module in (functional, lpip):
        monkeypatch.setattr(module, "_TORCHVISION_AVAILABLE", True)
    measures._load_lpips.cache_clear()
