"""Loading a checkpoint, and the errors of one that is not whole."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from edict_engine.conditioning import Conditioning
from edict_engine.errors import ModelNotFound, ModelNotUsable, PromptTooLong
from edict_engine.fixed_point import quantise, to_float
from edict_engine.model import Model, load_model

from .conftest import TINY


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "tiny"))


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_model_knows_its_sizes(model: Model) -> None:
    assert model.latent_channels == 4
    assert model.vae_factor == 8
    assert model.pixel_factor == 16  # the UNet halves the latent once
    assert model.default_size == 128
    assert model.max_tokens == 16
    assert model.latent_shape(32, 64) == (4, 4, 8)


def test_any_multiple_of_the_pixel_factor_goes_through_every_network(model: Model) -> None:
    pixels = torch.zeros(3, model.pixel_factor, 3 * model.pixel_factor)
    latent = model.encode(pixels)
    assert (latent.shape, latent.dtype) == (model.latent_shape(16, 48), torch.float64)
    context = Conditioning.stack([model.embed("a dog")])
    noise = model.denoise(latent[None], torch.tensor([500]), context)
    assert noise.shape == (1, *latent.shape)
    assert (model.decode(latent).shape, model.decode(latent).dtype) == ((3, 16, 48), torch.float32)


def test_encoding_an_image_twice_gives_the_same_latent(model: Model) -> None:
    pixels = torch.rand(3, 32, 32) * 2 - 1
    assert torch.equal(model.encode(pixels), model.encode(pixels))


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_a_latent_that_went_through_integers_decodes_to_the_same_bits(
    model: Model, seed: int
) -> None:
    pixels = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    latent = model.encode(pixels)
    scale = model.schedule.image_scale

    there_and_back = scale * to_float(quantise(latent / scale))

    assert torch.equal(model.decode(latent), model.decode(there_and_back))


def test_a_row_of_a_batch_may_have_its_own_timestep(model: Model) -> None:
    latents = torch.randn(1, 4, 8, 8).expand(2, -1, -1, -1)
    contexts = Conditioning.stack([model.embed("a dog")]).padded(2)
    early, late = model.denoise(latents, torch.tensor([900, 10]), contexts)
    assert not torch.equal(early, late)


def test_embeddings_are_cached_by_prompt(model: Model) -> None:
    assert model.embed("a red car") is model.embed("a red car")
    assert not torch.equal(model.embed("a red car").hidden, model.embed("a blue car").hidden)


def test_a_prompt_that_exactly_fits_is_taken_and_one_token_more_is_not(model: Model) -> None:
    fitting = "abcdefghijklmnopqrstuvwxyz"
    while True:
        fitting = fitting[:-1]
        try:
            model.embed(fitting)
        except PromptTooLong:
            continue
        break
    with pytest.raises(PromptTooLong) as caught:
        model.embed(fitting + "q")
    assert (caught.value.tokens, caught.value.limit) == (17, 16)


def test_the_fingerprint_names_what_the_bits_depend_on(model: Model) -> None:
    fingerprint = model.fingerprint(8, (4, 16, 16))
    assert fingerprint.startswith("cpu:")
    assert f"torch={torch.__version__};float32;contiguous_format;rows=8;4x16x16" in fingerprint
    assert fingerprint.endswith(f"threads={torch.get_num_threads()}")


def test_the_revision_of_a_folder_follows_its_contents_and_not_its_place(
    model: Model, folder: Path
) -> None:
    assert load_model(folder).revision == model.revision
    edit_json(folder / "scheduler" / "scheduler_config.json", beta_end=0.0121)
    assert load_model(folder).revision != model.revision


def test_a_folder_with_other_contents_than_asked_for_is_refused(model: Model) -> None:
    assert load_model(TINY, revision=model.revision).revision == model.revision
    with pytest.raises(ModelNotUsable, match="0123 was asked for"):
        load_model(TINY, revision="0123")


def test_what_is_neither_folder_nor_known_to_the_hub_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="neither a folder nor a hub id"):
        load_model("nobody/nothing", local_files_only=True)
    with pytest.raises(ModelNotFound, match="neither a folder nor a hub id"):
        load_model(tmp_path / "absent", local_files_only=True)


@pytest.mark.parametrize(
    "missing",
    [
        "model_index.json",
        "unet/config.json",
        "scheduler/scheduler_config.json",
        "scheduler",
        "tokenizer",
        "vae",
    ],
)
def test_a_folder_that_lacks_a_part_is_refused_with_its_name(folder: Path, missing: str) -> None:
    path = folder / missing
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    with pytest.raises(ModelNotUsable, match=Path(missing).name.removesuffix(".json")):
        load_model(folder)


def test_pickled_weights_are_never_loaded(folder: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ModelNotUsable, match=r"unet has no \.safetensors .* save_pretrained"):
        load_model(folder)


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder"])
def test_damaged_weights_are_refused(folder: Path, component: str) -> None:
    weights = next((folder / component).glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelNotUsable, match="copy the model again"):
        load_model(folder)


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder"])
def test_weights_that_lack_a_tensor_are_refused_and_not_made_up(
    folder: Path, component: str
) -> None:
    weights = next((folder / component).glob("*.safetensors"))
    tensors = load_file(weights)
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(ModelNotUsable, match="copy the model again"):
        load_model(folder)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_index_is_refused(folder: Path, content: str) -> None:
    (folder / "model_index.json").write_text(content)
    with pytest.raises(ModelNotUsable, match=r"model_index\.json"):
        load_model(folder)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("model_index.json", {"unet": ["diffusers", "SD3Transformer2DModel"]}, "SD3Transformer"),
        ("model_index.json", {"unet": [None, None]}, "no unet"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "predicts .sample."),
        ("unet/config.json", {"in_channels": 9}, "copy the model again"),
        ("unet/config.json", {"class_embed_type": "timestep"}, "copy the model again"),
        ("text_encoder/config.json", {"vocab_size": 141}, "copy the model again"),
    ],
)
def test_a_model_of_another_kind_is_refused(
    folder: Path, file: str, changes: dict[str, Any], message: str
) -> None:
    edit_json(folder / file, **changes)
    with pytest.raises(ModelNotUsable, match=message):
        load_model(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": 9}, "takes 9 channels and the VAE's latents have 4"),
        ({"class_embed_type": "identity"}, "needs more than a prompt"),
    ],
)
def test_a_whole_unet_that_asks_for_more_than_a_latent_and_a_prompt_is_refused(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    config = json.loads((folder / "unet" / "config.json").read_text())
    unet: Any = UNet2DConditionModel
    unet.from_config(config | changes).save_pretrained(folder / "unet")
    with pytest.raises(ModelNotUsable, match=message):
        load_model(folder)


def test_a_tokenizer_that_lost_its_vocabulary_is_refused(folder: Path) -> None:
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (folder / "tokenizer" / name).unlink()
    with pytest.raises(ModelNotUsable):
        load_model(folder)
