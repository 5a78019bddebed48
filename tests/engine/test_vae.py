"""The VAE's precision, and tiles for large images."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from edict_engine.editor import Editor
from edict_engine.engine import Engine
from edict_engine.errors import ParameterError
from edict_engine.images import to_image
from edict_engine.model import Model, load_model
from edict_engine.parameters import SamplerParameters

from .conftest import TINY

TILE = 64


@pytest.fixture(scope="module")
def tiled() -> Model:
    return load_model(TINY, dtype=torch.float32, vae_tile=TILE)


def pixels(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(3, height, width, generator=generator) * 2 - 1


def test_an_image_of_one_tile_is_the_same_in_tiles_and_whole(model: Model, tiled: Model) -> None:
    latent = model.encode(pixels(TILE, TILE))
    assert torch.equal(tiled.encode(pixels(TILE, TILE)), latent)
    assert torch.equal(tiled.decode(latent), model.decode(latent))


@pytest.mark.parametrize("size", [(80, 64), (96, 176)])
def test_a_larger_image_is_put_together_from_its_tiles_and_always_the_same(
    model: Model, tiled: Model, size: tuple[int, int]
) -> None:
    latent, whole = tiled.encode(pixels(*size)), model.encode(pixels(*size))
    assert latent.shape == whole.shape == model.latent_shape(*size)
    assert not torch.equal(latent, whole)
    # The first tile, up to where the next begins, is that of the image cut to it.
    kept = 6
    first = model.encode(pixels(*size)[:, :TILE, :TILE])
    assert torch.allclose(latent[:, :kept, :kept], first[:, :kept, :kept], atol=1e-5)
    assert torch.equal(tiled.encode(pixels(*size)), latent)
    assert tiled.decode(latent).shape == (3, *size)
    assert torch.equal(tiled.decode(latent), tiled.decode(latent))


def test_a_round_trip_in_tiles_is_exact_and_says_so(model: Model, tiled: Model) -> None:
    with Engine(tiled) as engine:
        editor = Editor(tiled, engine)
        made = editor.invert(to_image(pixels(96, 96)), "a dog", SamplerParameters(steps=3))
        result = editor.reconstruct(made)
    assert (result.exact, result.same_as_vae) == (True, True)
    assert made.fingerprint.endswith(f";vae_tile={TILE}")
    assert "vae_tile" not in model.fingerprint(2, (4, 12, 12))


@pytest.mark.parametrize("tile", [-32, 0, 16, 40])
def test_tiles_that_do_not_divide_are_refused(tile: int) -> None:
    with pytest.raises(ParameterError, match="takes multiples of 32: give "):
        load_model(TINY, dtype=torch.float32, vae_tile=tile)


@pytest.mark.parametrize(
    ("force_upcast", "expected"),
    [(True, torch.float32), (None, torch.float32), (False, torch.float16)],
)
def test_a_vae_that_overflows_in_float16_gets_float32(
    tmp_path: Path, force_upcast: bool | None, expected: torch.dtype
) -> None:
    folder = Path(shutil.copytree(TINY, tmp_path / "tiny"))
    config = folder / "vae" / "config.json"
    content = json.loads(config.read_text())
    content.pop("force_upcast")
    if force_upcast is not None:
        content["force_upcast"] = force_upcast
    config.write_text(json.dumps(content))
    assert load_model(folder, vae_dtype=torch.float16).vae_dtype == expected
    assert load_model(folder, vae_dtype=torch.bfloat16).vae_dtype == torch.bfloat16
