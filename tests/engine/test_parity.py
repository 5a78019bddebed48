"""The sampler's numbers are those of the paper's authors (see tests/reference/README.md)."""

from functools import partial
from typing import Any

import pytest
import torch

from edict_engine.conditioning import Conditioning
from edict_engine.engine import Engine
from edict_engine.fixed_point import LatentPair, quantise, to_float
from edict_engine.group import Trajectory
from edict_engine.guidance import ClassifierFree
from edict_engine.model import Model
from edict_engine.parameters import SamplerParameters
from edict_engine.samplers import get_sampler

from .conftest import Vectors, tiny_model

CASES = [0, 1, 2, 3, 4, 5]  # 4 is plain DDIM, 5 is Prompt-to-Prompt
TOLERANCES = [
    pytest.param(torch.float64, 1e-4, marks=pytest.mark.slow),
    (torch.float32, 2e-3),
]


def guide(model: Model, case: dict[str, Any], direction: str) -> ClassifierFree:
    """Lead towards the base prompt in inversion, towards the edit prompt in generation."""
    empty, base, edit = (model.embed(prompt) for prompt in ("", case["base"], case["edit"]))
    if direction == "invert":
        return ClassifierFree(empty, base, case["guidance"])
    if case.get("p2p"):
        control = model.attention_control(case["base"], case["edit"])
        return ClassifierFree(empty, base, case["guidance"], edit=edit, attention=control)
    return ClassifierFree(empty, edit, case["guidance"])


def run(
    engine: Engine, model: Model, case: dict[str, Any], direction: str, pair: LatentPair
) -> LatentPair:
    """Invert under the case's base prompt, or generate under its edit prompt."""
    sampler = "ddim" if case["baseline"] else "edict"
    parameters = SamplerParameters(
        sampler, case["steps"], case["strength"], case["guidance"], case["mix"]
    )
    grid = model.schedule.grid(parameters.steps, parameters.strength)
    guidance = guide(model, case, direction)
    start = partial(getattr(get_sampler(sampler), direction), pair, grid, parameters)
    return engine.submit(Trajectory(start, guidance, pair.shape, len(grid))).result()


@pytest.mark.parametrize("index", CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES, ids=str)
def test_inversion_and_edit_arrive_where_the_authors_code_did(
    vectors: Vectors, index: int, dtype: torch.dtype, tolerance: float
) -> None:
    # Given an image's latent, as a pair
    case, model = vectors.cases[index], tiny_model(dtype)
    image_scale = model.schedule.image_scale
    noise_scale = model.schedule.grid(case["steps"], case["strength"])[0].scale_from
    z = quantise(vectors[f"{index}.init"][0] / image_scale)

    # When it is inverted under one prompt and generated under another
    with Engine(model, rungs=(1, 2, 3)) as engine:
        inverted = run(engine, model, case, "invert", LatentPair(z, z))
        edited = run(engine, model, case, "generate", inverted)

    # Then both are the authors' own numbers
    for member in "x" if case["baseline"] else "xy":
        for kind, pair, scale in (
            ("inverted", inverted, noise_scale),
            ("edited", edited, image_scale),
        ):
            ours = scale * to_float(getattr(pair, member))
            theirs = vectors[f"{index}.{kind}.{member}"][0]
            assert (ours - theirs).abs().max().item() <= tolerance, (kind, member)


def test_no_case_of_the_authors_is_left_out(vectors: Vectors) -> None:
    assert list(range(len(vectors.cases))) == CASES
    assert [case.get("p2p", False) for case in vectors.cases] == [False] * 5 + [True]


def test_prompts_become_the_authors_text_embeddings(vectors: Vectors) -> None:
    model = tiny_model(torch.float64)
    prompts = ["a photo of a dog", "a golden retriever sleeping on the grass"]
    ours = torch.stack([model.embed(prompt).hidden for prompt in prompts])
    assert (ours - vectors["component.text_embedding"]).abs().max().item() < 1e-5


def test_the_network_answers_as_it_did_for_the_authors(vectors: Vectors) -> None:
    model = tiny_model(torch.float64)
    latents = vectors["component.latent"]
    timesteps = vectors["component.timestep"].expand(2)
    contexts = Conditioning(vectors["component.text_embedding"])
    noise = model.denoise(latents, timesteps, contexts)
    assert (noise - vectors["component.unet_output"]).abs().max().item() < 1e-5


def test_latents_decode_to_the_authors_pixels(vectors: Vectors) -> None:
    model = tiny_model(torch.float64)
    expected = vectors["component.vae_decoded"]
    for latent, pixels in zip(vectors["component.latent"], expected, strict=True):
        assert (model.decode(latent) - pixels).abs().max().item() < 1e-4
