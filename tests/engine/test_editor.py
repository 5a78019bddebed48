"""The whole engine on the model that ships: invert, edit, reconstruct."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from edict_engine import errand
from edict_engine.editor import Editor
from edict_engine.engine import Engine
from edict_engine.errors import (
    Cancelled,
    ModelMismatch,
    ParameterError,
    PromptTooLong,
)
from edict_engine.images import to_image, to_pixels
from edict_engine.latent_file import Inversion, load_inversion, save_inversion
from edict_engine.metrics import psnr
from edict_engine.model import Model, load_model
from edict_engine.numerics import fastest_dtype
from edict_engine.parameters import SamplerParameters

from .conftest import tiny_model

SHORT = SamplerParameters(steps=5, strength=0.8)


@pytest.fixture(scope="module")
def demo() -> Model:
    return load_model("demo", dtype=fastest_dtype(torch.device("cpu")))


@pytest.fixture(scope="module")
def editor(demo: Model) -> Iterator[Editor]:
    with Engine(demo) as engine:
        yield Editor(demo, engine)


@pytest.fixture
def tiny_editor() -> Iterator[Editor]:
    model = tiny_model(torch.float32)
    with Engine(model) as engine:
        yield Editor(model, engine)


@pytest.fixture(scope="module")
def photo(demo: Model) -> Image.Image:
    """Something with colour, edges and texture, of the model's size."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    image = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(6))
    image.paste((200, 40, 30), (16, 16, 48, 48))
    return image


@pytest.fixture(scope="module")
def inversion(editor: Editor, photo: Image.Image) -> Inversion:
    return editor.invert(photo, "a photo of red tomatoes", SHORT)


def test_the_shipped_model_loads_like_any_other(demo: Model) -> None:
    assert (demo.name, demo.default_size, demo.pixel_factor) == ("demo", 64, 16)
    assert len(demo.revision) == 64
    words = torch.stack([demo.embed(prompt).hidden for prompt in ("red tomatoes", "green apples")])
    assert words.shape == (2, demo.max_tokens, 128)
    assert not torch.equal(words[0], words[1])


def test_a_round_trip_through_the_file_is_exact_and_looks_like_the_vaes_own(
    editor: Editor, demo: Model, photo: Image.Image, inversion: Inversion
) -> None:
    # When an inversion is stored, read and generated back
    back = editor.reconstruct(load_inversion(save_inversion(inversion)), photo)
    # Then every integer is the same, and every byte is that of the VAE alone
    assert (back.exact, back.max_error, back.same_as_vae) == (True, 0.0, True)
    vae = demo.decode(demo.encode(to_pixels(photo)))
    assert back.image.tobytes() == to_image(vae).tobytes()
    assert back.psnr == back.vae_psnr == pytest.approx(psnr(to_pixels(photo), vae.clamp(-1, 1)))


def test_an_inversion_says_how_it_was_made(inversion: Inversion, demo: Model) -> None:
    assert inversion.parameters == SHORT
    assert inversion.prompt == "a photo of red tomatoes"
    assert inversion.model_revision == demo.revision
    assert inversion.rung == 2
    assert inversion.fingerprint == demo.fingerprint(2, demo.latent_shape(64, 64))
    assert inversion.schedule["timesteps"] == [600, 400, 200, 0]


def test_an_edit_follows_its_prompt_guidance_and_negative_prompt(
    editor: Editor, inversion: Inversion
) -> None:
    images = [
        editor.edit(inversion, inversion.prompt).image,
        editor.edit(inversion, "a pencil sketch of red tomatoes").image,
        editor.edit(inversion, "a pencil sketch of red tomatoes", guidance=7.0).image,
        editor.edit(inversion, "a pencil sketch of red tomatoes", negative_prompt="yellow").image,
    ]
    assert len({image.tobytes() for image in images}) == 4


@pytest.mark.slow
def test_a_sketch_has_less_colour_than_the_picture_and_more_light(
    editor: Editor, photo: Image.Image
) -> None:
    enough = SamplerParameters(steps=30, strength=0.8, guidance=4.0)
    sketch = editor.edit(editor.invert(photo, "a photo", enough), "a pencil sketch").image
    before, after = (
        np.asarray(image.convert("HSV"), np.float64).mean((0, 1)) for image in (photo, sketch)
    )
    assert after[1] < before[1] / 2
    assert after[2] > before[2] + 50


def test_an_edit_to_the_same_prompt_is_the_reconstruction(
    editor: Editor, inversion: Inversion
) -> None:
    same = editor.edit(inversion, inversion.prompt).image
    assert same.tobytes() == editor.reconstruct(inversion).image.tobytes()


def test_a_reconstruction_that_is_not_exact_says_by_how_much(
    editor: Editor, photo: Image.Image
) -> None:
    inexact = editor.invert(photo, "a photo", replace(SHORT, sampler="ddim"))
    back = editor.reconstruct(inexact)
    assert not back.exact
    assert 0 < back.max_error < 10
    assert not back.same_as_vae
    assert (back.psnr, back.vae_psnr) == (None, None)


@pytest.mark.parametrize("sampler", ["bdia", "o-belm"])
def test_one_call_a_step_brings_the_image_back_and_half_the_turns(
    tiny_editor: Editor, photo: Image.Image, sampler: str
) -> None:
    seen: list[tuple[int, int]] = []
    inversion = tiny_editor.invert(
        photo,
        "a photo",
        replace(SHORT, sampler=sampler),
        on_progress=lambda *progress: seen.append(progress),
    )
    assert seen[-1] == (4, 4)
    back = tiny_editor.reconstruct(inversion)
    assert back.exact or sampler == "o-belm"
    assert back.max_error < 1e-6
    assert back.same_as_vae
    edited = tiny_editor.edit(inversion, "a sketch").image
    assert edited.tobytes() != back.image.tobytes()


def test_attention_control_changes_an_edit_and_is_not_the_base_prompt_either(
    tiny_editor: Editor, photo: Image.Image
) -> None:
    inversion = tiny_editor.invert(photo, "a photo of a dog", SHORT)
    made = [
        tiny_editor.edit(inversion, words, attention_control=control).image.tobytes()
        for words, control in (
            ("a photo of a cat", False),
            ("a photo of a cat", True),
            ("a photo of a dog", False),
        )
    ]
    assert len(set(made)) == 3


def test_sdedit_noises_without_a_turn_and_edits_in_ddims(
    tiny_editor: Editor, photo: Image.Image
) -> None:
    turns: list[tuple[int, int]] = []
    parameters = replace(SHORT, sampler="sdedit", seed=3)
    noised = tiny_editor.invert(
        photo, "", parameters, on_progress=lambda *progress: turns.append(progress)
    )
    assert turns[-1] == (0, 0)
    assert load_inversion(save_inversion(noised)).parameters.seed == 3
    edited, same = (tiny_editor.edit(noised, words).image for words in ("a sketch", noised.prompt))
    assert edited.tobytes() != same.tobytes()
    assert not tiny_editor.reconstruct(noised).exact


def test_many_callers_at_once_each_get_what_they_would_alone(
    editor: Editor, photo: Image.Image
) -> None:
    exact: list[bool] = []

    def round_trip(turn: int) -> None:
        own = editor.invert(photo.rotate(90 * turn), "a photo", SHORT)
        exact.append(editor.reconstruct(own).exact)

    threads = [threading.Thread(target=round_trip, args=(turn,)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert exact == [True] * 4


def test_progress_reaches_the_total(editor: Editor, photo: Image.Image) -> None:
    seen: list[tuple[int, int]] = []
    editor.invert(photo, "a photo", SHORT, on_progress=lambda *progress: seen.append(progress))
    assert seen[-1] == (8, 8)


def test_a_caller_can_stop_the_work(
    editor: Editor, photo: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errand, "POLL_INTERVAL", 0.01)
    with pytest.raises(Cancelled):
        editor.invert(photo, "a photo", SamplerParameters(steps=1000), should_stop=lambda: True)


def test_an_image_whose_sides_are_no_multiples_is_refused(editor: Editor) -> None:
    with pytest.raises(ParameterError, match=r"65x64 pixels .* multiples of 16: .* size, say 64"):
        editor.invert(Image.new("RGB", (65, 64)), "a photo", SHORT)


def test_a_prompt_that_is_too_long_is_refused(editor: Editor, photo: Image.Image) -> None:
    with pytest.raises(PromptTooLong):
        editor.invert(photo, "very " * 100 + "long", SHORT)


def test_guidance_outside_its_domain_is_refused(editor: Editor, inversion: Inversion) -> None:
    with pytest.raises(ParameterError, match="guidance is -1"):
        editor.edit(inversion, "a photo", guidance=-1)


def test_an_inversion_of_another_model_is_refused(editor: Editor, inversion: Inversion) -> None:
    foreign = replace(
        inversion, model_name="tiny", model_revision=tiny_model(torch.float32).revision
    )
    with pytest.raises(ModelMismatch, match="made by tiny at"):
        editor.edit(foreign, "a photo")
    with pytest.raises(ModelMismatch, match="made by tiny at"):
        editor.reconstruct(foreign)
