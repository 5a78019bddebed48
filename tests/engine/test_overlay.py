"""The source's own pixels around a masked edit: its very bytes, and no seam."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageDraw

from edict_engine.editor import Editor
from edict_engine.engine import Engine
from edict_engine.errors import ParameterError
from edict_engine.latent_file import Inversion
from edict_engine.model import load_model
from edict_engine.overlay import overlay, rim
from edict_engine.parameters import SamplerParameters

SIDE = 24
WIDTHS = st.integers(0, 9)
MASKS = arrays.arrays(np.bool_, (SIDE, SIDE), elements=st.booleans())
PICTURES = arrays.arrays(np.uint8, (SIDE, SIDE, 3))
SHORT = SamplerParameters(steps=3, strength=0.8, guidance=3.0)


def drawn(mask: np.ndarray) -> Image.Image:
    return Image.fromarray(mask.astype(np.uint8) * 255)


def near(mask: np.ndarray, distance: int) -> np.ndarray:
    """Where some pixel of the mask is at most so far away, along both axes."""
    padded = np.pad(mask, distance)
    reach = range(2 * distance + 1)
    shifted = [
        padded[down : down + SIDE, right : right + SIDE] for down in reach for right in reach
    ]
    return np.logical_or.reduce(shifted)


@given(PICTURES, PICTURES, MASKS, WIDTHS)
@settings(max_examples=150, deadline=None)
def test_beyond_the_rim_bytes_are_the_sources_and_in_the_mask_they_are_the_edits(
    edited: np.ndarray, source: np.ndarray, mask: np.ndarray, width: int
) -> None:
    share = rim(drawn(mask), width)
    made = np.asarray(overlay(Image.fromarray(edited), Image.fromarray(source), share))

    beyond, black = ~near(mask, width), np.asarray(share) == 0
    assert np.array_equal(made[beyond], source[beyond])
    assert np.array_equal(made[black], source[black])
    assert np.array_equal(made[mask], edited[mask])
    # The edit shows in the mask and on its rim, and nowhere else.
    assert black[beyond].all()
    assert not black[mask].any()


@given(PICTURES, MASKS, WIDTHS)
@settings(max_examples=50, deadline=None)
def test_an_edit_that_changed_nothing_is_the_source_everywhere(
    source: np.ndarray, mask: np.ndarray, width: int
) -> None:
    image = Image.fromarray(source)
    assert overlay(image, image, rim(drawn(mask), width)).tobytes() == source.tobytes()


def test_across_the_rim_the_edit_fades_evenly() -> None:
    mask = Image.new("L", (SIDE, SIDE), 0)
    mask.paste(255, (0, 0, 10, SIDE))
    share = np.asarray(rim(mask, 8))[SIDE // 2].astype(int)
    falls = -np.diff(share)
    assert share[9] == 255
    assert share[18] == 0
    assert 24 <= falls[9:18].min() <= falls[9:18].max() <= 32


@pytest.fixture(scope="module")
def editor() -> Iterator[Editor]:
    model = load_model("demo", dtype=torch.float32)
    with Engine(model, rungs=(2,)) as engine:
        yield Editor(model, engine)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    ImageDraw.Draw(image).ellipse((8, 8, 40, 40), fill=(200, 40, 30))
    return image


@pytest.fixture(scope="module")
def inversion(editor: Editor, photo: Image.Image) -> Inversion:
    return editor.invert(photo, "a photo of red tomatoes", SHORT)


@given(
    mask=arrays.arrays(np.bool_, (48, 64), elements=st.booleans())
    .map(lambda cells: cells & (np.arange(64) < 20))
    .filter(np.any)
)
@settings(max_examples=8, deadline=None)
def test_an_edit_keeps_the_sources_bytes_wherever_its_mask_is_black(
    editor: Editor, inversion: Inversion, photo: Image.Image, mask: np.ndarray
) -> None:
    edited = editor.edit(inversion, "a sketch", mask=drawn(mask), keep_pixels_of=photo)

    made, source = np.asarray(edited.image), np.asarray(photo)
    assert edited.mask is not None
    kept = np.asarray(edited.mask) == 0
    # Half a cell of 4 pixels from the last column that may be white.
    assert kept[:, 22:].all()
    assert np.array_equal(made[kept], source[kept])
    assert not np.array_equal(made[mask], source[mask])


def test_around_a_place_that_is_found_pixels_are_the_sources_and_the_latent_the_images_own(
    editor: Editor, inversion: Inversion, photo: Image.Image
) -> None:
    bare = editor.edit(inversion, "a photo of green apples")
    kept = editor.edit(inversion, "a photo of green apples", mask="auto", keep_pixels_of=photo)

    assert kept.mask is not None
    black = np.asarray(kept.mask) == 0
    held = torch.from_numpy(black.reshape(12, 4, 16, 4).all((1, 3))).expand(inversion.pair.shape)
    assert held.any()
    assert not black.all()
    assert np.array_equal(np.asarray(kept.image)[black], np.asarray(photo)[black])
    assert not np.array_equal(np.asarray(bare.image)[black], np.asarray(photo)[black])
    assert kept.pair.x[held].equal(inversion.image[held])
    assert not kept.pair.x[~held].equal(inversion.image[~held])


def test_pixels_cannot_be_kept_without_a_mask(
    editor: Editor, inversion: Inversion, photo: Image.Image
) -> None:
    with pytest.raises(
        ParameterError, match="keep_pixels_of is given and mask is not: give a mask"
    ):
        editor.edit(inversion, "a sketch", keep_pixels_of=photo)


def test_pixels_of_another_size_than_the_inversions_are_refused(
    editor: Editor, inversion: Inversion
) -> None:
    small = Image.new("RGB", (32, 32))
    with pytest.raises(
        ParameterError, match="32x32 pixels and the inversion 64x48: give the image"
    ):
        editor.edit(inversion, "a sketch", mask="auto", keep_pixels_of=small)
