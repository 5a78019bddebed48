"""Held-out photographs, as `edict eval` reads them."""

from pathlib import Path

import pytest

from tools.train_demo_model import held_out
from tools.train_demo_model.evaluation import held_out_cases
from tools.train_demo_model.photographs import find_photographs
from worker.quality.inputs import Reader, caption_images, check_images, find_images, read_manifest


@pytest.fixture
def folder(photographs, recipe, tmp_path) -> Path:
    cases = held_out_cases(find_photographs(*photographs), recipe, 100)
    assert len(cases) > 1
    held_out.write(cases, tmp_path)
    return tmp_path


def test_every_photograph_has_its_caption_beside_it(folder, recipe):
    place = folder / held_out.PHOTOGRAPHS

    items, failures = caption_images(place, find_images(place, None), None, None)

    assert not failures
    assert len(items) == len(list(place.glob("*.png")))
    assert all(item.prompt.startswith("a photo of ") for _, item in items)
    assert check_images(Reader(recipe.size, 4), items) == (items, [])


def test_every_row_of_the_manifest_is_an_edit_whose_files_are_there(folder, recipe):
    orders, failures = read_manifest(folder / held_out.MANIFEST)

    assert not failures
    assert len(orders) == len(list((folder / held_out.PHOTOGRAPHS).glob("*.png")))
    assert all(order.base_prompt != order.edit_prompt for _, order in orders)
    assert check_images(Reader(recipe.size, 4), orders) == (orders, [])


def test_a_colour_is_asked_for_where_there_is_a_mask_and_a_style_elsewhere(folder):
    orders, _ = read_manifest(folder / held_out.MANIFEST)

    assert any(order.mask for _, order in orders)
    for _, order in orders:
        plain = order.edit_prompt.startswith("a photo of ") and not order.edit_prompt.endswith(
            ("at night", "in warm light")
        )
        assert (order.mask is not None) == plain
