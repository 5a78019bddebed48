"""What the training tool makes of photographs: captions, pictures, masks, colours."""

from pathlib import Path

import numpy as np
import pytest

from tests.tools.tiny import CPU, NOTHING_DROPPED, garment_picture, make_work
from tools.train_demo_model import (
    captions,
    dataset,
    masks,
    measures,
    stages,
)
from tools.train_demo_model.captions import Subject
from tools.train_demo_model.measures import to_picture
from tools.train_demo_model.photographs import Photograph, find_photographs
from tools.train_demo_model.recipe import Captions
from tools.train_demo_model.stages import Workplace
from tools.train_demo_model.vocabulary import ANY_NOUN, CLOTHING, HUES, PRODUCE


class TestCaptions:
    @pytest.mark.parametrize(
        ("noun", "colour", "said"),
        [
            ("apples", "red", "red apples"),
            ("dress", "red", "a red dress"),
            ("dress", "orange", "an orange dress"),
            ("an astronaut", "blue", "a blue astronaut"),
            ("an astronaut", None, "an astronaut"),
            ("the sky", "pink", "the pink sky"),
        ],
    )
    def test_noun_and_colour_take_the_right_article(self, noun, colour, said):
        assert captions.phrase(noun, colour) == said

    def test_nothing_is_left_out_when_nothing_may_be(self):
        rng = np.random.default_rng(0)
        subject = Subject(PRODUCE["Lemon"], "blue")

        said = {captions.caption("sketch", subject, NOTHING_DROPPED, rng) for _ in range(20)}

        assert said == {"a pencil sketch of blue lemons"}

    def test_every_word_is_left_out_now_and_then(self):
        rng = np.random.default_rng(0)
        subject = Subject(PRODUCE["Lemon"], "blue")

        said = {captions.caption("night", subject, Captions(), rng) for _ in range(600)}

        assert "a photo at night" in said
        assert "a photo of lemons at night" in said
        assert "a photo of blue fruit at night" in said
        assert any(f"a photo of {noun} at night" in said for noun in ANY_NOUN)

    def test_a_recoloured_picture_is_never_called_by_its_old_colour(self, photographs, recipe):
        for photo in find_photographs(*photographs):
            plain = recipe.model_copy(update={"captions": NOTHING_DROPPED})
            for _, words in list(dataset.make_pictures(photo, plain))[5:]:
                assert sum(colour in words.split() for colour in HUES) == 1
                assert photo.kind.colour is None or photo.kind.colour not in words


class TestPictures:
    def test_all_pictures_of_a_photograph_depend_on_its_name_and_the_seed_alone(
        self, photographs, recipe
    ):
        photo = find_photographs(*photographs)[5]

        first = list(dataset.make_pictures(photo, recipe))
        again = list(dataset.make_pictures(photo, recipe))
        other = list(dataset.make_pictures(photo, recipe.model_copy(update={"seed": 1})))

        assert all(
            np.array_equal(a, b) and x == y for (a, x), (b, y) in zip(first, again, strict=True)
        )
        assert any(not np.array_equal(a, b) for (a, _), (b, _) in zip(first, other, strict=True))

    def test_the_split_does_not_depend_on_where_the_photographs_are(self):
        names = [f"train/Lemon/{number}.jpg" for number in range(400)]

        here = [Photograph(Path("/a") / n, n, PRODUCE["Lemon"]).held_out(16) for n in names]
        there = [Photograph(Path("/b") / n, n, PRODUCE["Lemon"]).held_out(16) for n in names]

        assert here == there
        assert 10 < sum(here) < 45

    def test_no_held_out_photograph_is_trained_on(self, photographs, recipe, tmp_path):
        place = make_work(tmp_path, recipe, photographs)
        kept = [p for p in find_photographs(*photographs) if not p.held_out(recipe.held_out)]

        made = sum(len(list(dataset.make_pictures(photo, recipe))) for photo in kept)

        assert 0 < len(kept) < 12
        assert len(stages.pictures(place).captions) == made

    def test_pictures_of_another_recipe_are_not_used(self, photographs, recipe, tmp_path):
        make_work(tmp_path, recipe, photographs)

        other = Workplace(tmp_path, recipe.model_copy(update={"seed": 5}), CPU)

        with pytest.raises(FileNotFoundError, match="run the stage `data` first"):
            stages.pictures(other)

    def test_pictures_of_other_photographs_are_refused(self, photographs, recipe, tmp_path):
        make_work(tmp_path, recipe, photographs)

        with pytest.raises(ValueError, match="made of other photographs"):
            make_work(tmp_path, recipe, (photographs[0].parent, photographs[1]))

    def test_folders_without_known_classes_are_refused(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="named after their class"):
            find_photographs(tmp_path, tmp_path)


class TestColours:
    def test_a_garment_is_told_from_its_background(self):
        thing = masks.find(garment_picture((40, 60, 190)), CLOTHING["dress"])

        assert thing is not None
        assert thing.colour == "blue"
        assert np.asarray(thing.mask)[40, 40] == 255
        assert np.asarray(thing.mask)[4, 4] == 0

    def test_a_picture_that_is_all_one_colour_has_no_object(self):
        assert masks.find(garment_picture((200, 200, 200)), CLOTHING["dress"]) is None

    def test_a_folder_without_a_hue_has_no_object(self):
        assert masks.find(garment_picture((40, 60, 190)), PRODUCE["Garlic"]) is None

    @pytest.mark.parametrize("colour", HUES)
    @pytest.mark.parametrize("before", [(200, 30, 30), (40, 40, 40), (240, 240, 240)])
    def test_recolouring_changes_the_object_and_nothing_else(self, before, colour):
        picture = garment_picture(before, shade=150)
        thing = masks.find(picture, CLOTHING["dress"])
        assert thing is not None

        painted = masks.recolour(picture, thing.mask, thing, colour)

        mask = np.asarray(thing.mask, np.float32) / 255
        assert measures.colour_is(to_picture(np.asarray(painted)), mask, colour)
        outside = np.asarray(thing.mask) == 0
        assert np.array_equal(np.asarray(painted)[outside], np.asarray(picture)[outside])

    def test_a_colour_is_never_swapped_for_itself(self):
        thing = masks.find(garment_picture((200, 20, 20)), CLOTHING["dress"])
        assert thing is not None

        assert "red" not in dataset.other_colours(thing)
