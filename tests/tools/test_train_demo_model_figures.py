"""How the training tool judges a model."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.tools.tiny import ROOT, garment_picture
from tools.train_demo_model import (
    assessment,
    card,
    dataset,
    evaluation,
    grid,
    measures,
    styles,
)
from tools.train_demo_model.editing import Request, RoundTrip, Settings
from tools.train_demo_model.evaluation import Figures
from tools.train_demo_model.export import LIMIT_BYTES
from tools.train_demo_model.measures import Rate, to_picture
from tools.train_demo_model.photographs import find_photographs
from tools.train_demo_model.recipe import Recipe


class TestMeasures:
    @pytest.mark.parametrize("style", styles.RENDER)
    def test_a_rendered_style_is_recognised_and_keeps_the_layout(self, style):
        before = garment_picture((200, 120, 40), shade=225)

        after = to_picture(np.asarray(styles.RENDER[style](before)))

        assert measures.style_is(style, to_picture(np.asarray(before)), after)
        assert not measures.style_is(style, *[to_picture(np.asarray(before))] * 2)
        assert measures.layout_kept(to_picture(np.asarray(before)), after) > 0.5

    def test_a_black_picture_is_no_night(self):
        before = to_picture(np.asarray(garment_picture((200, 120, 40))))

        assert not measures.style_is("night", before, np.zeros_like(before))

    def test_unrelated_pictures_do_not_share_a_layout(self):
        rng = np.random.default_rng(0)
        one, other = rng.random((2, 32, 32, 3), np.float32)

        assert abs(measures.layout_kept(one, other)) < 0.2
        assert measures.layout_kept(one, one) == pytest.approx(1)

    def test_wilsons_interval_agrees_with_the_textbook(self):
        low, high = Rate(8, 10).interval()

        assert (low, high) == pytest.approx((0.490, 0.943), abs=0.001)
        assert Rate(0, 10).interval()[0] == 0
        assert Rate(10, 10).interval()[1] == pytest.approx(1)


class Unchanged:
    """Edits that do nothing, to test the judging."""

    def edit(self, request: Request) -> list[dataset.Pixels]:
        return [request.pixels for _ in (*request.targets, *request.local, *request.kept)]

    def round_trip(self, _pixels: dataset.Pixels, _caption: str) -> RoundTrip:
        return RoundTrip(0.1, 0.1, 0.2, 0.3)


class Painting(Unchanged):
    """Edits that differ from the picture by 3 everywhere, 2 in a mask and 1 with pixels kept."""

    def edit(self, request: Request) -> list[dataset.Pixels]:
        away = [
            *(3 for _ in request.targets),
            *(2 for _ in request.local),
            *(1 for _ in request.kept),
        ]
        return [
            np.where(request.pixels > 127, request.pixels - by, request.pixels + by) for by in away
        ]


class TestEvaluation:
    @pytest.fixture
    def cases(self, photographs, recipe):
        return evaluation.held_out_cases(find_photographs(*photographs), recipe, 3)

    def test_only_held_out_photographs_are_judged(self, photographs, recipe):
        everything = find_photographs(*photographs)
        held_out = [p for p in everything if p.held_out(recipe.held_out)]

        cases = evaluation.held_out_cases(everything, recipe, 100)

        assert len(cases) == len(held_out) < len(everything)

    def test_no_fruit_is_asked_for_the_colour_that_it_is_said_to_have(self, tmp_path, recipe):
        # Given limes, which are called green and whose hue lies nearer to yellow
        (tmp_path / "Lime").mkdir()
        for number in range(12):
            garment_picture((190, 255, 0)).save(tmp_path / "Lime" / f"{number}.jpg")
        every = recipe.model_copy(update={"held_out": 1})

        cases = evaluation.held_out_cases(find_photographs(tmp_path, tmp_path), every, 12)

        assert {case.subject.colour for case in cases} == {"green"}
        assert "green" in dataset.other_colours(cases[0].thing)
        assert len({case.colour for case in cases}) > 1
        assert "green" not in {case.colour for case in cases}

    def test_edits_that_do_nothing_are_no_better_than_chance(self, cases, recipe):
        figures = assessment.measure(Unchanged(), cases, recipe, [20.0, 30.0])

        assert figures.colour.edited == figures.colour.unedited
        assert figures.colour.inside == figures.colour_kept.outside == 0
        for style in figures.styles.values():
            assert style.edited == style.unedited
            assert style.layout == pytest.approx(1)
        assert figures.errors.ddim_conditional == pytest.approx(0.2)

    def test_each_way_of_a_colour_edit_is_judged_by_its_own_pictures(self, cases, recipe):
        figures = assessment.measure(Painting(), cases, recipe, [20.0])

        changes = [
            each.outside
            for each in (figures.colour_everywhere, figures.colour, figures.colour_kept)
        ]
        assert changes == pytest.approx([3 / 255, 2 / 255, 1 / 255], rel=1e-3)

    def test_colours_cannot_be_judged_without_objects(self, cases, recipe):
        nothing = [case for case in cases if case.thing is None]

        with pytest.raises(ValueError, match="raise --count"):
            assessment.measure(Unchanged(), nothing, recipe, [20.0])

    def test_the_card_takes_every_figure(self, cases, recipe):
        figures = assessment.measure(Unchanged(), cases, recipe, [20.0, 30.0])

        kept = figures.colour_kept.model_copy(update={"inside": 0.25, "outside": 0.0625})
        figures = figures.model_copy(update={"colour_kept": kept})

        text = card.write(figures, recipe, Settings(), 12_300_000)

        assert "12.3 MB" in text
        assert "(`keep_pixels`) 0.250 and 0.062;" in text
        assert "| 0.1000 | 0.1000 | 0.2000 | 0.3000 |" in text
        assert "$" not in text

    def test_the_shipped_card_is_made_of_the_figures_beside_it(self):
        shipped = ROOT / "edict_engine" / "small_model"
        figures = Figures.model_validate_json((shipped / "figures.json").read_text())
        size = sum(path.stat().st_size for path in shipped.rglob("*.safetensors"))

        text = card.write(figures, Recipe.read(shipped / "recipe.json"), Settings(), size)

        assert (shipped / "MODEL_CARD.md").read_text() == text
        assert size <= LIMIT_BYTES

    def test_the_card_says_where_there_is_guidance(self, cases, recipe):
        figures = assessment.measure(Unchanged(), cases, recipe, [20.0, 30.0])
        everywhere, above = Settings(guided_from=0), Settings(guided_from=0.5)

        assert "on all timesteps." in card.write(figures, recipe, everywhere, 1)
        assert "above 50% and none below." in card.write(figures, recipe, above, 1)

    @pytest.mark.slow
    def test_the_whole_evaluation_runs_on_the_finished_model(self, trained, photographs):
        place, model = trained
        settings = Settings(steps=2)

        assessment.evaluate(place, find_photographs(*photographs), model, 3, settings)

        record = json.loads((model / "figures.json").read_text())
        assert record["errors"]["edict"] == pytest.approx(record["errors"]["vae"], rel=0.01)
        assert record["seconds_per_edit"] > 0
        assert record["seconds_per_local_edit"] > 0
        assert record["colour_kept"]["outside"] <= record["colour"]["outside"]
        with Image.open(model / "grid.png") as sheet:
            assert sheet.width > 6 * grid.CELL
        assert "## Limits" in (model / "MODEL_CARD.md").read_text()
