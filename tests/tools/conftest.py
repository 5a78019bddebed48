"""Tiny photographs, and a model trained on them once for all tests."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tools.tiny import TINY, garment_picture, make_work
from tools.train_demo_model import (
    stages,
)
from tools.train_demo_model.recipe import Recipe
from tools.train_demo_model.stages import Workplace


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for data, folder in (("groceries", "Lemon"), ("groceries", "Garlic"), ("clothing", "dress")):
        place = root / data / "train" / folder
        place.mkdir(parents=True)
        for number in range(4):
            picture = garment_picture(tuple(rng.integers(0, 255, 3).tolist()))
            picture.save(place / f"{folder}_{number}.jpg")
    return root / "groceries", root / "clothing"


@pytest.fixture
def recipe() -> Recipe:
    return Recipe.model_validate(TINY)


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, photographs: tuple[Path, Path]
) -> tuple[Workplace, Path]:
    """Train the tiny recipe to the end, undisturbed."""
    folder = tmp_path_factory.mktemp("trained")
    torch.set_num_threads(1)
    place = make_work(folder / "work", Recipe.model_validate(TINY), photographs)
    stages.vae(place)
    stages.decoder(place)
    stages.diffusion(place)
    stages.export(place, folder / "model")
    return place, folder / "model"
