"""Each model family, with a small random checkpoint of its published structure."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionXLPipeline
from hypothesis import given, settings
from hypothesis import strategies as st

from edict_engine.conditioning import Conditioning
from edict_engine.editor import Editor
from edict_engine.engine import Engine
from edict_engine.errors import ModelNotUsable
from edict_engine.fixed_point import LatentPair
from edict_engine.group import Trajectory
from edict_engine.guidance import ClassifierFree
from edict_engine.images import to_image
from edict_engine.latent_file import load_inversion, save_inversion
from edict_engine.model import Model, load_model
from edict_engine.parameters import SamplerParameters
from edict_engine.samplers import get_sampler

from ..conftest import start_pair
from .checkpoints import change

FAMILIES = ["sd15", "sd21", "sdxl", "sd3"]


@pytest.fixture(scope="module", params=FAMILIES)
def family_model(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Model:
    return load_model(folders[request.param], dtype=torch.float32)


def work(
    model: Model,
    parameters: SamplerParameters,
    pair: LatentPair,
    prompt: str = "a dog",
    direction: str = "invert",
) -> Trajectory[LatentPair]:
    """A trajectory on ``model`` and its own levels, under guidance."""
    sampler = get_sampler(parameters.sampler)
    grid = model.schedule.grid(parameters.steps, parameters.strength)
    guidance = ClassifierFree(model.embed(""), model.embed(prompt), parameters.guidance)
    run = getattr(sampler, direction)
    return Trajectory(lambda: run(pair, grid, parameters), guidance, pair.shape, len(grid))


def latents(model: Model, seed: int = 0) -> LatentPair:
    side = model.pixel_factor // model.vae_factor
    return start_pair(seed, (model.latent_channels, side, 2 * side))


@settings(deadline=None, max_examples=4)
@given(
    name=st.sampled_from(["edict", "bdia"]),
    steps=st.integers(2, 4),
    guidance=st.sampled_from([1.0, 3.0]),
    seed=st.integers(0, 99),
)
def test_the_round_trip_is_the_identity_on_integers(
    family_model: Model, name: str, steps: int, guidance: float, seed: int
) -> None:
    parameters = SamplerParameters(name, steps, 1.0, guidance)
    start = latents(family_model, seed)
    with Engine(family_model, rungs=(2,)) as engine:
        inverted = engine.submit(work(family_model, parameters, start)).result()
        down = work(family_model, parameters, inverted, direction="generate")
        back = engine.submit(down).result()
    assert not inverted.equal(start)
    assert back.equal(start)


def inverted_alone_and_in_company(model: Model) -> tuple[LatentPair, LatentPair]:
    parameters = SamplerParameters(steps=3, strength=1.0)
    others = [
        (SamplerParameters("bdia", steps=2, strength=1.0, guidance=7.0), "a castle", "invert"),
        (SamplerParameters("ddim", steps=4, strength=0.5), "", "generate"),
        (SamplerParameters("sdedit", steps=2, guidance=1.0), "a red car", "generate"),
    ]
    with Engine(model, rungs=(8,)) as engine:
        alone = engine.submit(work(model, parameters, latents(model, 7))).result()
        company = [
            engine.submit(work(model, kind, latents(model, seed), prompt, way), priority=1)
            for seed, (kind, prompt, way) in enumerate(others)
        ]
        together = engine.submit(work(model, parameters, latents(model, 7))).result()
        for ticket in company:
            ticket.result()
    return alone, together


def test_an_inverted_latent_is_the_same_bits_alone_or_beside_any_others(
    family_model: Model,
) -> None:
    alone, together = inverted_alone_and_in_company(family_model)
    assert together.equal(alone)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_so_it_is_in_bfloat16(folders: dict[str, Path], family: str) -> None:
    alone, together = inverted_alone_and_in_company(
        load_model(folders[family], dtype=torch.bfloat16)
    )
    assert together.equal(alone)


def test_an_inversion_comes_back_bit_for_bit_from_its_file(family_model: Model) -> None:
    image = to_image(torch.rand(3, 64, 64) * 2 - 1)
    with Engine(family_model) as engine:
        editor = Editor(family_model, engine)
        made = editor.invert(image, "a dog", SamplerParameters(steps=3))
        result = editor.reconstruct(load_inversion(save_inversion(made)))
    assert not torch.equal(made.pair.x, made.image)
    assert (result.exact, result.max_error, result.same_as_vae) == (True, 0.0, True)


def _weightless(folder: Path, copy: Path) -> Path:
    """A copy whose weights are empty files, so that an error about anything else came first."""
    shutil.copytree(folder, copy, copy_function=_copy_but_empty_weights)
    return copy


def _copy_but_empty_weights(source: str, target: str) -> None:
    if source.endswith(".safetensors"):
        Path(target).touch()
    else:
        shutil.copyfile(source, target)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_that_cannot_run_is_refused_before_its_weights_are_read(
    folders: dict[str, Path], tmp_path: Path, family: str
) -> None:
    folder = _weightless(folders[family], tmp_path / "copy")
    scheduler = folder / "scheduler" / "scheduler_config.json"
    whole = scheduler.read_text()

    other = "DDIMScheduler" if family == "sd3" else "FlowMatchEulerDiscreteScheduler"
    change(scheduler, _class_name=other)
    with pytest.raises(ModelNotUsable, match=f"the scheduler is a {other}"):
        load_model(folder)

    scheduler.write_text(whole)
    flag = {"use_dynamic_shifting": True} if family == "sd3" else {"prediction_type": "sample"}
    change(scheduler, **flag)
    with pytest.raises(ModelNotUsable, match=r"predicts 'sample'|use_dynamic_shifting to True"):
        load_model(folder)

    scheduler.write_text(whole)
    denoiser = folder / ("transformer" if family == "sd3" else "unet")
    next(denoiser.glob("*.safetensors")).unlink()
    with pytest.raises(ModelNotUsable, match=rf"{denoiser.name} has no \.safetensors weights"):
        load_model(folder)

    shutil.rmtree(folder / "scheduler")
    with pytest.raises(ModelNotUsable, match=r"scheduler"):
        load_model(folder)


def test_a_velocity_becomes_the_noise_that_diffusers_computes_it_from(
    folders: dict[str, Path],
) -> None:
    schedule = load_model(folders["sd21"], dtype=torch.float32).schedule
    kind: Any = DDIMScheduler
    theirs = kind.from_pretrained(folders["sd21"] / "scheduler")
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


def test_sdxls_vae_overflows_in_float16_and_is_run_in_float32(folders: dict[str, Path]) -> None:
    model = load_model(folders["sdxl"], dtype=torch.float16, vae_dtype=torch.float16)
    assert (model.dtype, model.vae_dtype) == (torch.float16, torch.float32)
