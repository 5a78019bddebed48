"""Edits inside a mask: outside of it the latent is the image's own, integer for integer."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from edict_engine.editor import Editor
from edict_engine.engine import Engine
from edict_engine.errors import ParameterError
from edict_engine.fixed_point import LatentPair, quantise
from edict_engine.found_mask import LEVELS
from edict_engine.group import Trajectory
from edict_engine.latent_file import Inversion
from edict_engine.masked import latent_mask, mask_image, paste
from edict_engine.model import load_model
from edict_engine.parameters import SamplerParameters
from edict_engine.samplers import SAMPLERS
from edict_engine.ticket import Ticket

from .conftest import start_pair

SIZE = (64, 64)
SHORTS = Path(__file__).parents[2] / "producer/demo/made_by_the_model/shorts.png"
SHORT = SamplerParameters(steps=4, strength=0.8, guidance=3.0)


@pytest.fixture(scope="module")
def editor() -> Iterator[Editor]:
    model = load_model("demo", dtype=torch.float32)
    with Engine(model, rungs=(2, 4)) as engine:
        yield Editor(model, engine)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    image = Image.new("RGB", SIZE, (180, 180, 170))
    ImageDraw.Draw(image).ellipse((16, 16, 48, 48), fill=(200, 40, 30))
    return image


@pytest.fixture(scope="module")
def inversion(editor: Editor, photo: Image.Image) -> Inversion:
    return editor.invert(photo, "a photo of red tomatoes", SHORT)


def left_half() -> Image.Image:
    mask = Image.new("L", SIZE, 0)
    mask.paste(255, (0, 0, 32, 64))
    return mask


def outside(mask: Image.Image, inversion: Inversion) -> torch.Tensor:
    return ~latent_mask(mask, inversion.pair.shape).expand(inversion.pair.shape)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_outside_the_users_mask_the_latent_is_the_images_own_and_inside_it_is_not(
    editor: Editor, photo: Image.Image, name: str
) -> None:
    inversion = editor.invert(photo, "a photo of red tomatoes", replace(SHORT, sampler=name))
    edited = editor.edit(inversion, "a pencil sketch of lemons", mask=left_half())
    kept = outside(left_half(), inversion)
    assert torch.equal(edited.pair.x[kept], inversion.image[kept])
    assert not torch.equal(edited.pair.x[~kept], inversion.image[~kept])


def test_outside_the_mask_pixels_change_much_less_than_inside(
    editor: Editor, inversion: Inversion
) -> None:
    edited = editor.edit(inversion, "a pencil sketch of lemons", mask=left_half())
    made, back = (np.asarray(i) for i in (edited.image, editor.reconstruct(inversion).image))
    difference = np.abs(made.astype(int) - back.astype(int))
    assert 3 * difference[:, 40:].mean() < difference[:, :32].mean()


def test_a_mask_is_found_around_what_the_edit_is_about(editor: Editor) -> None:
    # Given blue shorts in the middle of a beige picture
    shorts = Image.open(SHORTS).convert("RGB")
    inversion = editor.invert(shorts, "a photo of blue shorts", replace(SHORT, strength=1.0))
    # When they are to be red
    edited = editor.edit(inversion, "a photo of red shorts", mask="auto")
    # Then the mask has most of them and little of the rim, and the rest is the image's own
    assert edited.mask is not None
    assert edited.mask.size == SIZE
    inside = np.asarray(edited.mask) > 0
    rim = np.concatenate([inside[:8].ravel(), inside[:, :4].ravel(), inside[:, -4:].ravel()])
    assert inside[24:40, 8:48].mean() > 0.9
    assert rim.mean() < 0.3
    kept = outside(edited.mask, inversion)
    assert torch.equal(edited.pair.x[kept], inversion.image[kept])


def test_the_mask_and_the_edit_in_it_do_not_depend_on_who_shares_the_batch(
    editor: Editor, photo: Image.Image
) -> None:
    # Given batches of four rows, of which an edit takes two
    with Engine(editor.model, rungs=(4,)) as engine, ThreadPoolExecutor(2) as pool:
        wide = Editor(editor.model, engine)
        inversion = wide.invert(photo, "a photo of red tomatoes", SHORT)
        alone = wide.edit(inversion, "a photo of green apples", mask="auto")
        # When another edit runs beside it
        prompts = ["a photo of green apples", "a photo of blue shorts"]
        beside, _ = pool.map(lambda words: wide.edit(inversion, words, mask="auto"), prompts)
    assert alone.mask is not None
    assert alone.mask == beside.mask
    assert alone.pair.equal(beside.pair)


def test_no_batch_of_an_edit_at_its_own_rung_is_as_large_as_the_engine_likes(
    editor: Editor, photo: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Engine(editor.model, rungs=(1, 8)) as engine:
        narrow = Editor(editor.model, engine)
        # Given an inversion in batches of one row: a comparison of two prompts does not fit in
        inversion = narrow.invert(photo, "a photo of red tomatoes", replace(SHORT, guidance=1.0))
        assert inversion.rung == 1
        submit, rungs = engine.submit, []

        def noted(trajectory: Trajectory[Any], *, priority: int, rung: int | None) -> Ticket[Any]:
            rungs.append(rung)
            return submit(trajectory, priority=priority, rung=rung)

        monkeypatch.setattr(engine, "submit", noted)
        narrow.edit(inversion, "a photo of green apples", guidance=6.0, mask="auto", rung=2)
    # The image's own generation, the comparison and the edit
    assert rungs == [1, 2, 2]


def test_a_latent_belongs_to_the_mask_with_its_first_white_pixel() -> None:
    mask = Image.new("L", SIZE, 0)
    mask.putpixel((5, 63), 255)
    inside = latent_mask(mask, (4, 16, 16))
    assert inside.nonzero().tolist() == [[15, 1]]
    assert latent_mask(mask_image(inside, SIZE), (4, 16, 16)).equal(inside)


def test_a_mask_of_another_size_is_refused(editor: Editor, inversion: Inversion) -> None:
    with pytest.raises(ParameterError, match="mask has 32x64 pixels and the image 64x64"):
        editor.edit(inversion, "a photo", mask=Image.new("L", (32, 64), 255))


def test_a_mask_that_is_neither_an_image_nor_auto_is_refused(
    editor: Editor, inversion: Inversion
) -> None:
    word: Any = "automatic"
    with pytest.raises(ParameterError, match="mask is 'automatic': give an image"):
        editor.edit(inversion, "a photo", mask=word)


def test_an_empty_mask_is_refused(editor: Editor, inversion: Inversion) -> None:
    with pytest.raises(ParameterError, match="black everywhere"):
        editor.edit(inversion, "a photo", mask=Image.new("L", SIZE, 0))


def test_pasting_ends_at_the_image_even_where_the_way_back_missed_it() -> None:
    image = quantise(torch.ones(4, 8, 8, dtype=torch.float64))
    missed, edit = start_pair(1), start_pair(2)
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[0] = True
    end = paste(inside, [start_pair(0), missed], image)(1, edit)
    assert torch.equal(end.x[:, 0], edit.x[:, 0])
    assert torch.equal(end.x[:, 1:], image[:, 1:])
    assert isinstance(end, LatentPair)


def test_progress_of_a_masked_edit_counts_all_its_trajectories(
    editor: Editor, inversion: Inversion
) -> None:
    seen: list[tuple[int, int]] = []
    editor.edit(
        replace(inversion),  # which nothing is kept of
        "a photo of green apples",
        mask="auto",
        on_progress=lambda *progress: seen.append(progress),
    )
    assert seen[-1][0] == seen[-1][1] == 6 + len(LEVELS) + 6
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
