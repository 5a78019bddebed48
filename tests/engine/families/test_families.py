"""Each model family, with a small random checkpoint of its real structure."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from edict_engine.conditioning import Conditioning
from edict_engine.editor import Editor
from edict_engine.engine import Engine
from edict_engine.errors import ModelNotUsable
from edict_engine.images import to_image
from edict_engine.latent_file import load_inversion, save_inversion
from edict_engine.model import Model, load_model
from edict_engine.parameters import SamplerParameters

from ..conftest import TINY


def _change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _write_unet(folder: Path, **changes: Any) -> None:
    torch.manual_seed(0)
    config = json.loads((folder / "unet" / "config.json").read_text())
    kind: Any = UNet2DConditionModel
    kind.from_config(config | changes).save_pretrained(folder / "unet")


def write_sd2(folder: Path) -> Path:
    shutil.copytree(TINY, folder)
    _change(folder / "scheduler" / "scheduler_config.json", prediction_type="v_prediction")
    _write_unet(folder, use_linear_projection=True, attention_head_dim=[4, 8])
    return folder


def write_sdxl(folder: Path) -> Path:
    shutil.copytree(TINY, folder)
    shutil.copytree(folder / "tokenizer", folder / "tokenizer_2")
    torch.manual_seed(1)
    config = json.loads((folder / "text_encoder" / "config.json").read_text())
    encoder: Any = CLIPTextModelWithProjection
    second = config | {"projection_dim": 24, "hidden_act": "gelu"}
    encoder(CLIPTextConfig(**second)).save_pretrained(folder / "text_encoder_2")
    _write_unet(
        folder,
        use_linear_projection=True,
        cross_attention_dim=64,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 24,
        transformer_layers_per_block=[1, 2],
        attention_head_dim=[4, 8],
    )
    _change(
        folder / "model_index.json",
        _class_name="StableDiffusionXLPipeline",
        tokenizer_2=["transformers", "CLIPTokenizer"],
        text_encoder_2=["transformers", "CLIPTextModelWithProjection"],
        force_zeros_for_empty_prompt=True,
    )
    return folder


WRITERS: dict[str, Callable[[Path], Path]] = {"sd2": write_sd2, "sdxl": write_sdxl}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        name: write(tmp_path_factory.mktemp("families") / name) for name, write in WRITERS.items()
    }


@pytest.fixture(scope="module", params=list(WRITERS))
def family_model(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Model:
    return load_model(folders[request.param], dtype=torch.float32)


def test_an_inversion_comes_back_bit_for_bit_from_its_file(family_model: Model) -> None:
    image = to_image(torch.rand(3, 32, 32) * 2 - 1)
    with Engine(family_model) as engine:
        editor = Editor(family_model, engine)
        made = editor.invert(image, "a dog", SamplerParameters(steps=4))
        result = editor.reconstruct(load_inversion(save_inversion(made)))
    assert not torch.equal(made.pair.x, made.image)
    assert (result.exact, result.max_error, result.same_as_vae) == (True, 0.0, True)


def test_a_row_has_the_same_bits_beside_any_others(family_model: Model) -> None:
    latents = torch.randn(4, 4, 4, 4, dtype=torch.float64)
    prompts = [family_model.embed(prompt) for prompt in ("a dog", "", "a cat", "a car")]
    times = torch.tensor([10, 990, 500, 250])
    together = family_model.denoise(latents, times, Conditioning.stack(prompts))
    alone = family_model.denoise(
        latents[:1].expand(4, -1, -1, -1),
        times[:1].expand(4),
        Conditioning.stack(prompts[:1]).padded(4),
    )
    assert torch.equal(alone[0], together[0])
    assert not torch.equal(together[0], together[1])


def test_a_velocity_becomes_the_noise_that_diffusers_computes_it_from(
    folders: dict[str, Path],
) -> None:
    schedule = load_model(folders["sd2"], dtype=torch.float32).schedule
    kind: Any = DDIMScheduler
    theirs = kind.from_pretrained(folders["sd2"] / "scheduler")
    image, noise = torch.randn(2, 3, 4, 8, 8)
    times = torch.tensor([0, 500, 999])
    noisy = theirs.add_noise(image, noise, times)
    velocity = theirs.get_velocity(image, noise, times)
    assert torch.allclose(schedule.to_noise(velocity, noisy, times), noise, atol=1e-4)


def test_sdxl_embeds_a_prompt_and_predicts_noise_as_diffusers_does(
    folders: dict[str, Path],
) -> None:
    model = load_model(folders["sdxl"], dtype=torch.float32)
    pipeline: Any = StableDiffusionXLPipeline
    theirs = pipeline.from_pretrained(folders["sdxl"], add_watermarker=False)
    with torch.no_grad():
        hidden, no_hidden, pooled, no_pooled = theirs.encode_prompt("a dog")
        latent = torch.randn(1, 4, 4, 6)
        sizes = torch.tensor([[32.0, 48, 0, 0, 32, 48]])
        added = {"text_embeds": pooled, "time_ids": sizes}
        noise = theirs.unet(latent, 300, hidden, added_cond_kwargs=added).sample
    prompt, empty = model.embed("a dog"), model.embed("")
    for ours, expected in [
        (prompt.hidden, hidden[0]),
        (prompt.pooled, pooled[0]),
        (empty.hidden, no_hidden[0]),
        (empty.pooled, no_pooled[0]),
        (model.denoise(latent, torch.tensor([300]), Conditioning.stack([prompt])), noise),
    ]:
        assert ours is not None
        assert torch.allclose(ours, expected, atol=1e-5)


def test_sdxl_without_its_second_encoder_s_weights_is_refused(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folders["sdxl"], tmp_path / "copy"))
    (folder / "text_encoder_2" / "model.safetensors").unlink()
    with pytest.raises(ModelNotUsable, match=r"text_encoder_2 has no \.safetensors"):
        load_model(folder)


def test_a_vae_that_overflows_in_float16_is_refused_in_it(folders: dict[str, Path]) -> None:
    with pytest.raises(ModelNotUsable, match="float16: choose float32 or bfloat16"):
        load_model(folders["sdxl"], vae_dtype=torch.float16)
