"""What Stable Diffusion XL is told of an image's size and crop."""

from pathlib import Path

import pytest
import torch

from edict_engine.conditioning import Conditioning
from edict_engine.editor import Editor
from edict_engine.engine import Engine
from edict_engine.errors import ParameterError
from edict_engine.images import to_image
from edict_engine.latent_file import load_inversion, save_inversion
from edict_engine.model import Model, load_model
from edict_engine.parameters import SamplerParameters

from ..conftest import tiny_model

CROPPED = {"original_size": (1024, 768), "crop_top_left": (128, 0)}


@pytest.fixture(scope="module")
def model(folders: dict[str, Path]) -> Model:
    return load_model(folders["sdxl"], dtype=torch.float32)


def test_open_sizes_are_the_images_own_and_given_ones_are_what_diffusers_is_told(
    model: Model,
) -> None:
    prompt, unet = model.embed("a dog"), model._networks.unet
    rows = [
        prompt,
        model.tell_sizes(prompt, (32, 48, 0, 0, 32, 48)),
        model.tell_sizes(prompt, (1024, 768, 128, 0, None, None)),
    ]
    latent, time = torch.randn(1, 4, 4, 6).expand(3, -1, -1, -1), torch.tensor([300] * 3)
    ours = model.denoise(latent, time, Conditioning.stack(rows))
    added = {
        "text_embeds": torch.stack([prompt.pooled] * 3) if prompt.pooled is not None else None,
        "time_ids": torch.tensor([[32.0, 48, 0, 0, 32, 48]] * 2 + [[1024, 768, 128, 0, 32, 48]]),
    }
    with torch.no_grad():
        hidden = torch.stack([prompt.hidden] * 3)
        theirs = unet(latent, time, hidden, added_cond_kwargs=added).sample
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert torch.equal(ours[0], ours[1])
    assert not torch.equal(ours[0], ours[2])


def test_sizes_are_kept_with_an_inversion_and_used_on_the_way_back(model: Model) -> None:
    image = to_image(torch.rand(3, 32, 32) * 2 - 1)
    with Engine(model, rungs=(2,)) as engine:
        editor = Editor(model, engine)
        plain = editor.invert(image, "a dog", SamplerParameters(steps=4))
        parameters = SamplerParameters(steps=4, **CROPPED)  # type: ignore[arg-type]
        told = load_inversion(save_inversion(editor.invert(image, "a dog", parameters)))
        result = editor.reconstruct(told)
    assert told.parameters == parameters
    assert not told.pair.equal(plain.pair)
    assert result.exact


def test_a_model_that_is_not_told_sizes_refuses_them() -> None:
    other = tiny_model(torch.float32)
    with Engine(other, rungs=(2,)) as engine:
        editor = Editor(other, engine)
        with pytest.raises(ParameterError, match=r"original_size, .* are for SDXL"):
            editor.invert(
                to_image(torch.zeros(3, 32, 32)),
                "a dog",
                SamplerParameters(steps=2, target_size=(64, 64)),
            )


def test_all_open_is_the_same_as_nothing_said() -> None:
    assert SamplerParameters(crop_top_left=(0, 0)).sizes is None
    parameters = SamplerParameters(**CROPPED)  # type: ignore[arg-type]
    assert parameters.sizes == (1024, 768, 128, 0, None, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("original_size", (0, 512)),
        ("original_size", (512,)),
        ("target_size", (512, 2**16 + 1)),
        ("target_size", (512, 1.5)),
        ("crop_top_left", (-1, 0)),
        ("crop_top_left", (True, 0)),
    ],
)
def test_sizes_outside_their_domain_are_refused(name: str, value: tuple[int, ...]) -> None:
    with pytest.raises(ParameterError, match=f"{name} is .* two whole numbers"):
        SamplerParameters(**{name: value})  # type: ignore[arg-type]
