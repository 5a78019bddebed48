"""Everything that decides what the model becomes: one frozen record, kept beside the results.

Two runs of the same recipe on the same photographs, device and thread count give the same model.
"""

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Stage(BaseModel):
    """How long and how fast one network is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(gt=0)
    batch: int = Field(gt=0)
    rate: float = Field(gt=0, description="AdamW's learning rate at its highest")
    hold: float = Field(default=0.0, ge=0, le=1, description="share of the steps before decay")
    average: float = Field(default=0.999, gt=0, lt=1, description="decay of the moving average")


class VaeShape(BaseModel):
    """The autoencoder: pictures of `size` pixels to latents of a quarter of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: tuple[int, ...] = (24, 48, 96)
    latent_channels: int = 6
    groups: int = 8


class UNetShape(BaseModel):
    """The denoiser and the text encoder that is trained with it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: tuple[int, int, int] = (48, 96, 128)
    heads: tuple[int, int, int] = (2, 3, 4)
    text_width: int = 128
    text_layers: int = 3
    text_heads: int = 4
    tokens: int = Field(default=48, description="of a prompt; the usual 77 would cost time")


class Captions(BaseModel):
    """How often a caption leaves something out, so that the words that stay are learnt alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    empty: float = Field(default=0.1, description="no caption at all, for guidance")
    no_subject: float = Field(default=0.12, description="'a pencil sketch' of nothing named")
    any_noun: float = Field(default=0.15, description="a noun that says nothing about the picture")
    category: float = Field(default=0.08, description="'fruit' rather than 'apples'")
    no_colour: float = Field(default=0.2, description="'apples' rather than 'red apples'")


class Variants(BaseModel):
    """How many pictures are made of each photograph, by kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plain: int = 3
    recoloured: int = 4
    each_style: int = 1


class Recipe(BaseModel):
    """The whole recipe; its digest names what a checkpoint was made by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    size: int = Field(default=64, description="edge of the pictures in pixels")
    held_out: int = Field(default=16, description="one photograph in this many is never trained on")
    variants: Variants = Variants()
    captions: Captions = Captions()
    vae_shape: VaeShape = VaeShape()
    vae: Stage = Stage(steps=4000, batch=4, rate=1e-3, average=0.998)
    decoder: Stage = Stage(steps=6000, batch=4, rate=7e-4, average=0.998)
    unet_shape: UNetShape = UNetShape()
    unet: Stage = Stage(steps=9000, batch=16, rate=8e-4, hold=0.4)
    prediction: Literal["epsilon", "v_prediction"] = "epsilon"
    weight_limit: float = Field(default=16.0, description="of the loss weight 1/alphabar; 1: none")

    def digest(self, *parts: str) -> str:
        """Name the parts of the recipe that a stage depends on (all of it without arguments)."""
        text = self.model_dump_json(include=set(parts) if parts else None)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @staticmethod
    def read(path: Path | None) -> "Recipe":
        """Read a recipe from JSON; what the file leaves out keeps its default."""
        return Recipe() if path is None else Recipe.model_validate_json(path.read_text())
