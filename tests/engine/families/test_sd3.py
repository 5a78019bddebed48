"""Stable Diffusion 3 beside diffusers, with and without T5, and what edits it takes."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from PIL import Image

from edict_engine.conditioning import Conditioning
from edict_engine.editor import Editor
from edict_engine.engine import Engine
from edict_engine.errors import ModelNotUsable, ParameterError, PromptTooLong
from edict_engine.images import to_image
from edict_engine.model import Model, load_model
from edict_engine.parameters import SamplerParameters

from .checkpoints import change, without_t5


@pytest.fixture(scope="module", params=["with T5", "without T5"])
def folder(
    request: pytest.FixtureRequest,
    folders: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    if request.param == "with T5":
        return folders["sd3"]
    copy = tmp_path_factory.mktemp("sd3") / "copy"
    return without_t5(Path(shutil.copytree(folders["sd3"], copy)))


@pytest.fixture(scope="module")
def model(folders: dict[str, Path]) -> Model:
    return load_model(folders["sd3"], dtype=torch.float32)


def test_it_embeds_predicts_and_decodes_as_diffusers_does(folder: Path) -> None:
    model = load_model(folder, dtype=torch.float32)
    pipeline: Any = StableDiffusion3Pipeline
    has_t5 = (folder / "text_encoder_3").is_dir()
    parts = {} if has_t5 else dict.fromkeys(("tokenizer_3", "text_encoder_3"))
    theirs = pipeline.from_pretrained(folder, **parts)
    with torch.no_grad():
        hidden, _, pooled, _ = theirs.encode_prompt("a dog", "a dog", "a dog")
        latent = torch.randn(1, 16, 4, 6)
        velocity = theirs.transformer(latent, hidden, pooled, torch.tensor([321.5])).sample
        scaled = latent / theirs.vae.config.scaling_factor + theirs.vae.config.shift_factor
        pixels = theirs.vae.decode(scaled).sample[0]
    prompt = model.embed("a dog")
    ours = model.denoise(latent, torch.tensor([321.5]), Conditioning.stack([prompt]))
    for mine, expected in [
        (prompt.hidden, hidden[0]),
        (prompt.pooled, pooled[0]),
        (ours, velocity),
        (model.decode(latent[0].double()), pixels),
    ]:
        assert mine is not None
        assert torch.allclose(mine, expected, atol=1e-5)
    assert prompt.hidden.shape == (77 + 256, 48)
    assert bool(prompt.hidden[77:].any()) == has_t5


def test_encoding_takes_the_shift_off_that_decoding_puts_on(model: Model) -> None:
    pixels = torch.rand(3, 32, 32) * 2 - 1
    vae = model._networks.vae
    with torch.no_grad():
        mode = vae.encode(pixels[None]).latent_dist.mode()[0]
    expected = (mode.double() - 0.0609) * 1.5305
    torch.testing.assert_close(model.encode(pixels), expected, atol=1e-5, rtol=0)


def test_a_model_knows_its_sizes(model: Model) -> None:
    assert (model.pixel_factor, model.default_size, model.largest_side) == (16, 1024, 3072)


def test_outside_of_a_mask_an_edit_is_the_image_bit_for_bit(model: Model) -> None:
    image = to_image(torch.rand(3, 32, 32) * 2 - 1)
    mask = Image.new("L", image.size)
    mask.paste(255, (0, 0, 16, 32))
    with Engine(model, rungs=(2, 8)) as engine:
        editor = Editor(model, engine)
        inversion = editor.invert(image, "a dog", SamplerParameters(steps=4))
        edited = editor.edit(inversion, "a cat", guidance=7.0, negative_prompt="a car", mask=mask)
        found = editor.edit(inversion, "a cat", mask="auto")
    changed = edited.pair.x != inversion.image
    assert changed[..., :2].any()
    assert not changed[..., 2:].any()
    assert found.mask is not None


@pytest.mark.parametrize("sampler", ["o-belm", "ddim", "sdedit"])
def test_samplers_that_are_not_exact_measure_their_error(model: Model, sampler: str) -> None:
    image = to_image(torch.rand(3, 32, 32) * 2 - 1)
    with Engine(model, rungs=(2,)) as engine:
        editor = Editor(model, engine)
        inversion = editor.invert(image, "a dog", SamplerParameters(sampler, steps=4))
        result = editor.reconstruct(inversion, image)
    assert result.exact == (result.max_error == 0)
    assert result.max_error < 20


def test_attention_control_is_refused_before_any_work(model: Model) -> None:
    image = to_image(torch.rand(3, 32, 32) * 2 - 1)
    with Engine(model, rungs=(2,)) as engine:
        editor = Editor(model, engine)
        inversion = editor.invert(image, "a dog", SamplerParameters(steps=2))
        engine.close()  # any work would raise EngineClosed
        with pytest.raises(ParameterError, match=r"attention_control .* transformer"):
            editor.edit(inversion, "a cat", attention_control=True)


def test_an_image_beyond_the_embeddings_of_positions_is_refused(model: Model) -> None:
    with Engine(model, rungs=(2,)) as engine:
        editor = Editor(model, engine)
        with pytest.raises(ParameterError, match=r"3088x16 pixels .* at most 3072"):
            editor.invert(Image.new("RGB", (3088, 16)), "a dog", SamplerParameters(steps=2))


def test_a_prompt_longer_than_clip_takes_is_refused(model: Model) -> None:
    assert model.max_tokens == 77
    with pytest.raises(PromptTooLong):
        model.embed("q " * 77)


@pytest.mark.parametrize(
    ("component", "changes", "message"),
    [
        ("tokenizer_3", {"tokenizer_3": [None, None]}, "one of tokenizer_3 and text_encoder_3"),
        ("transformer", {"transformer": ["diffusers", "FluxTransformer2DModel"]}, "Flux"),
    ],
)
def test_a_checkpoint_of_other_parts_is_refused(
    folders: dict[str, Path], tmp_path: Path, component: str, changes: dict[str, Any], message: str
) -> None:
    copy = Path(shutil.copytree(folders["sd3"], tmp_path / "copy"))
    change(copy / "model_index.json", **changes)
    with pytest.raises(ModelNotUsable, match=message):
        load_model(copy)


def test_a_t5_tokenizer_that_lost_its_vocabulary_is_refused(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(folders["sd3"], tmp_path / "copy"))
    (copy / "tokenizer_3" / "tokenizer.json").unlink()
    with pytest.raises(ModelNotUsable, match="copy the"):
        load_model(copy)
