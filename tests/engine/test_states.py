"""Masked edits of an image share the states of its own generation, and no bit depends on it."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from edict_engine.editor import Edited, Editor
from edict_engine.engine import Engine
from edict_engine.errand import Errand
from edict_engine.errors import Cancelled
from edict_engine.fixed_point import LatentPair
from edict_engine.found_mask import LEVELS
from edict_engine.latent_file import Inversion
from edict_engine.model import load_model
from edict_engine.parameters import SamplerParameters
from edict_engine.samplers import SAMPLERS
from edict_engine.states import KeptStates, Recorder

from .conftest import SCHEDULE, drive, fake_noise, start_pair

SHORT = SamplerParameters(steps=5, strength=0.8, guidance=3.0)
#: Turns in which a mask is looked for.
LOOKS = len(LEVELS)
EXACT = sorted(name for name, sampler in SAMPLERS.items() if sampler.exact)


@pytest.fixture(scope="module")
def editor() -> Iterator[Editor]:
    model = load_model("demo", dtype=torch.float32)
    with Engine(model, rungs=(4,)) as engine:
        yield Editor(model, engine)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    image = Image.new("RGB", (64, 64), (180, 180, 170))
    ImageDraw.Draw(image).ellipse((16, 16, 48, 48), fill=(200, 40, 30))
    return image


def inverted(editor: Editor, photo: Image.Image, sampler: str) -> Inversion:
    parameters = replace(SHORT, sampler=sampler)
    return editor.invert(photo, "a photo of red tomatoes", parameters, for_masks=True)


def edited(editor: Editor, inversion: Inversion) -> tuple[Edited, int]:
    """The edit, and the turns that it took."""
    totals = [0]
    made = editor.edit(
        inversion,
        "a photo of green apples",
        mask="auto",
        on_progress=lambda _, total: totals.append(total),
    )
    return made, totals[-1]


def assert_same(one: Edited, other: Edited) -> None:
    assert one.pair.equal(other.pair)
    assert one.mask == other.mask
    assert one.image.tobytes() == other.image.tobytes()


@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("name", EXACT)
def test_an_exact_sampler_meets_the_same_states_on_both_ways(
    name: str, seed: int, steps: int
) -> None:
    sampler, grid, parameters = (
        SAMPLERS[name],
        SCHEDULE.grid(steps),
        SamplerParameters(sampler=name),
    )
    up, down, image = Recorder(), Recorder(), start_pair(seed).x

    noise = drive(sampler.invert(LatentPair(image, image), grid, parameters, up), fake_noise)
    drive(sampler.generate(noise, grid, parameters, down), fake_noise)

    assert len(up.states) == len(down.states) == len(grid)
    assert all(one.equal(other) for one, other in zip(up.states, down.states, strict=True))


@pytest.mark.parametrize("sampler", EXACT)
def test_what_an_exact_inversion_met_spares_a_masked_edit_the_generation_and_changes_no_bit(
    editor: Editor, photo: Image.Image, sampler: str
) -> None:
    inversion = inverted(editor, photo, sampler)

    kept, turns = edited(editor, inversion)
    # A copy is another inversion: nothing was kept of it.
    replayed, more = edited(editor, replace(inversion))

    generation = 4 * SAMPLERS[sampler].calls_per_step
    assert (turns, more) == (generation + LOOKS, 2 * generation + LOOKS)
    assert_same(kept, replayed)


@pytest.mark.parametrize("sampler", sorted(set(SAMPLERS) - set(EXACT)))
def test_what_an_inexact_inversion_met_is_not_taken_for_the_generation(
    editor: Editor, photo: Image.Image, sampler: str
) -> None:
    inversion = inverted(editor, photo, sampler)

    first, turns = edited(editor, inversion)
    second, fewer = edited(editor, inversion)

    # The second edit uses what the first one's generation met.
    assert (turns, fewer) == (8 + LOOKS, 4 + LOOKS)
    assert_same(first, second)


@pytest.mark.parametrize("sampler", ["edict", "bdia", "ddim"])
def test_edits_at_once_of_a_stored_inversion_generate_its_image_once(
    editor: Editor, photo: Image.Image, sampler: str
) -> None:
    stored = replace(inverted(editor, photo, sampler))
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda _: edited(editor, stored), range(3)))

    generation = 4 * SAMPLERS[sampler].calls_per_step
    turns = sorted(turns for _, turns in made)
    assert turns == [generation + LOOKS, generation + LOOKS, 2 * generation + LOOKS]
    for other, _ in made[1:]:
        assert_same(made[0][0], other)


def test_nothing_is_kept_of_an_inversion_that_no_masked_edit_follows(
    editor: Editor, photo: Image.Image
) -> None:
    inversion = editor.invert(photo, "a photo of red tomatoes", SHORT)
    assert edited(editor, inversion)[1] == 2 * 8 + LOOKS


def test_where_the_first_edit_fails_the_next_one_generates_the_image(
    editor: Editor, photo: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = replace(inverted(editor, photo, "edict"))
    monkeypatch.setattr("edict_engine.errand.POLL_INTERVAL", 0.001)
    with pytest.raises(Cancelled):
        editor.edit(stored, "a sketch", mask="auto", should_stop=lambda: True)
    assert edited(editor, stored)[1] == 2 * 8 + LOOKS


def test_whoever_waits_for_another_edits_generation_may_give_up(editor: Editor) -> None:
    lock = threading.Lock()
    errand = Errand(editor.engine, 0, None, lambda: True)
    with lock, pytest.raises(Cancelled, match="waited for another one"), errand.turn(lock):
        pass
    assert not lock.locked()


def states(length: int) -> list[LatentPair]:
    return [start_pair(seed) for seed in range(length)]


BYTES = 2 * start_pair().x.nbytes


def made_anew(kept: KeptStates, inversions: Sequence[Inversion]) -> list[int]:
    """Ask for the states of all; say which of them had to be made."""
    made: list[int] = []
    for number, inversion in enumerate(inversions):
        kept.of(inversion, lambda: made.append(number) or [], lambda _: nullcontext())  # noqa: B023
    return made


def test_bytes_are_bounded_and_what_was_used_longest_ago_goes_first(
    editor: Editor, photo: Image.Image
) -> None:
    first = inverted(editor, photo, "bdia")
    second, third = replace(first), replace(first)
    kept = KeptStates(limit=4 * BYTES)
    kept.keep(first, states(2))
    kept.keep(second, states(2))
    assert made_anew(kept, [first]) == []

    kept.keep(third, states(2))

    assert made_anew(kept, [first, third]) == []
    assert made_anew(kept, [second]) == [0]


def test_states_that_are_too_large_drive_nothing_out(editor: Editor, photo: Image.Image) -> None:
    first = inverted(editor, photo, "bdia")
    second = replace(first)
    kept = KeptStates(limit=4 * BYTES)
    kept.keep(first, states(4))
    kept.keep(second, states(5))
    assert made_anew(kept, [first, second]) == [1]


def test_states_go_with_the_last_who_holds_their_inversion(
    editor: Editor, photo: Image.Image
) -> None:
    inversion = inverted(editor, photo, "bdia")
    kept = KeptStates()
    kept.keep(inversion, states(1))
    del inversion
    assert not kept._kept
