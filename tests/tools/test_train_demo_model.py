"""The training tool on tiny synthetic pictures: seconds, not hours, through the same code."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from edict_engine.model import load_model
from tools.train_demo_model import (
    assessment,
    captions,
    card,
    comparison,
    dataset,
    diffusion,
    evaluation,
    grid,
    masks,
    measures,
    stages,
    styles,
    tokenizer,
    vae,
)
from tools.train_demo_model.captions import Subject
from tools.train_demo_model.editing import Request, RoundTrip, Settings
from tools.train_demo_model.files import load_checkpoint, replaced, save_checkpoint
from tools.train_demo_model.foreign import StableDiffusionPipeline
from tools.train_demo_model.measures import Rate, to_picture
from tools.train_demo_model.photographs import Photograph, find_photographs
from tools.train_demo_model.recipe import Captions, Recipe, Stage
from tools.train_demo_model.stages import Workplace
from tools.train_demo_model.vocabulary import ANY_NOUN, CLOTHING, HUES, PRODUCE

ROOT = Path(__file__).parents[2]
NOTHING_DROPPED = Captions(empty=0, no_subject=0, any_noun=0, category=0, no_colour=0)
CPU = torch.device("cpu")
TINY = {
    "size": 32,
    "held_out": 3,
    "variants": {"plain": 1, "recoloured": 1, "each_style": 1},
    "vae_shape": {"channels": [8, 16], "latent_channels": 3, "groups": 4},
    "unet_shape": {
        "channels": [16, 16, 16],
        "heads": [2, 2, 2],
        "text_width": 16,
        "text_layers": 1,
        "text_heads": 2,
    },
    "vae": {"steps": 6, "batch": 2, "rate": 0.001},
    "unet": {"steps": 6, "batch": 2, "rate": 0.001},
}


def garment_picture(colour: tuple[int, int, int], shade: int = 200) -> Image.Image:
    """Draw a square object, a little shaded, in the middle of a plain background."""
    pixels = np.full((80, 80, 3), shade, np.uint8)
    pixels[16:64, 20:60] = colour
    light = np.linspace(0.85, 1.0, 80)[:, None, None]
    return Image.fromarray((pixels * light).astype(np.uint8))


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for data, folder in (("groceries", "Lemon"), ("groceries", "Garlic"), ("clothing", "dress")):
        place = root / data / "train" / folder
        place.mkdir(parents=True)
        for number in range(4):
            picture = garment_picture(tuple(rng.integers(0, 255, 3).tolist()))
            picture.save(place / f"{folder}_{number}.jpg")
    return root / "groceries", root / "clothing"


@pytest.fixture
def recipe() -> Recipe:
    return Recipe.model_validate(TINY)


def make_work(folder: Path, recipe: Recipe, photographs: tuple[Path, Path]) -> Workplace:
    place = Workplace(folder, recipe, CPU)
    stages.data(place, *photographs)
    return place


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, photographs: tuple[Path, Path]
) -> tuple[Workplace, Path]:
    """Train the tiny recipe to the end, undisturbed."""
    folder = tmp_path_factory.mktemp("trained")
    torch.set_num_threads(1)
    place = make_work(folder / "work", Recipe.model_validate(TINY), photographs)
    stages.vae(place)
    stages.diffusion(place)
    stages.export(place, folder / "model")
    return place, folder / "model"


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


class TestTokenizer:
    def test_words_of_the_captions_are_one_token_and_others_fall_apart(self, tmp_path):
        words = tokenizer.build(["a photo of red apples", "apples at night"], 24, tmp_path)

        assert words.tokenize("apples at night") == ["apples</w>", "at</w>", "night</w>"]
        assert len(words.tokenize("zebra")) > 1

    def test_ids_are_padded_with_the_end(self, tmp_path):
        words = tokenizer.build(["red apples"], 8, tmp_path)

        ids = tokenizer.token_ids(words, ["red apples", ""])

        assert ids.shape == (2, 8)
        assert ids[1].tolist() == [words.bos_token_id, *[words.eos_token_id] * 7]


class TestTraining:
    def test_a_file_that_was_being_written_leaves_the_former_one(self, tmp_path):
        path = tmp_path / "checkpoint.safetensors"
        save_checkpoint(path, {"a": torch.ones(2)}, {"step": 1})

        with contextlib.suppress(KeyboardInterrupt), replaced(path) as unfinished:
            unfinished.write_bytes(b"half of it")
            raise KeyboardInterrupt

        found = load_checkpoint(path)
        assert found is not None
        assert found[1] == {"step": 1}

    @pytest.mark.parametrize("stage", ["vae", "diffusion"])
    def test_a_run_that_is_killed_and_resumed_ends_like_one_that_was_not(
        self, stage, trained, tmp_path, photographs, recipe
    ):
        undisturbed, _ = trained
        place = make_work(tmp_path / "work", recipe, photographs)
        if stage == "diffusion":
            stages.vae(place)

        killed = self._run_until_killed(stage, place, tmp_path)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        getattr(stages, stage)(place)

        ended = load_file(place.folder / f"{stage}.safetensors")
        expected = load_file(undisturbed.folder / f"{stage}.safetensors")
        assert ended.keys() == expected.keys()
        assert all(torch.equal(ended[name], expected[name]) for name in expected)

    def _run_until_killed(self, stage, place, folder):
        """Train in another process, which dies by SIGKILL two steps after its last checkpoint."""
        script = folder / "killed.py"
        script.write_text(f"""
import os, signal, torch
from pathlib import Path
from tools.train_demo_model import stages, training
from tools.train_demo_model.recipe import Recipe
torch.set_num_threads(1)
follow = training.Training._follow
def follow_and_die(self):
    follow(self)
    if self.step == 2:
        self.save()
    if self.step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
training.Training._follow = follow_and_die
recipe = Recipe.model_validate_json('''{place.recipe.model_dump_json()}''')
place = stages.Workplace(Path({str(place.folder)!r}), recipe, torch.device("cpu"))
stages.{stage}(place)
""")
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, script], cwd=ROOT, env=environment, capture_output=True, text=True
        )

    def test_a_checkpoint_of_another_recipe_is_refused(self, trained):
        place, _ = trained
        other = place.recipe.model_copy(update={"weight_limit": 1.0})

        with pytest.raises(ValueError, match="was made by another recipe"):
            stages.diffusion_training(Workplace(place.folder, other, CPU))

    def test_an_autoencoder_of_another_recipe_is_refused(self, trained):
        place, _ = trained
        other = place.recipe.model_copy(update={"vae": Stage(steps=7, batch=2, rate=0.001)})

        with pytest.raises(ValueError, match="was made by another recipe"):
            stages.vae(Workplace(place.folder, other, CPU))

    def test_noise_and_v_are_weighted_so_that_both_losses_are_the_same(self, recipe):
        alphas = diffusion.alphas_cumprod()
        clean, noise, guess = torch.randn(3, 1000, 2)
        a = alphas[:, None]
        noised = a.sqrt() * clean + (1 - a).sqrt() * noise
        v = a.sqrt() * noise - (1 - a).sqrt() * clean

        by_noise = diffusion.loss_weights(recipe, alphas) * ((guess - noise) ** 2).mean(1)
        of_v = recipe.model_copy(update={"prediction": "v_prediction"})
        v_guess = (guess - (1 - a).sqrt() * noised) / a.sqrt()
        by_v = diffusion.loss_weights(of_v, alphas) * ((v_guess - v) ** 2).mean(1)

        assert torch.allclose(by_noise, by_v, rtol=1e-2, atol=1e-3)

    def test_whitened_latents_are_uncorrelated_and_pictures_stay(self, recipe):
        torch.manual_seed(0)
        network = vae.build(recipe).eval()
        pixels = np.random.default_rng(0).integers(0, 255, (64, 32, 32, 3), np.uint8)
        pictures = vae.to_tensor(pixels)
        with torch.no_grad():
            before = network.decode(network.encode(pictures).latent_dist.mode()).sample

            vae.whiten(network, pixels)

            posterior = network.encode(pictures).latent_dist
            after = network.decode(posterior.mode()).sample
        latents = (posterior.mode() * vae.SCALING).transpose(0, 1).flatten(1)
        assert torch.allclose(latents.mean(1), torch.zeros(3), atol=0.05)
        assert torch.allclose(torch.cov(latents), torch.eye(3), atol=0.05)
        assert torch.allclose(before, after, atol=0.02)
        assert posterior.std.max() < 0.01


class TestFinishedModel:
    def test_diffusers_loads_it_and_paints(self, trained):
        _, model = trained
        pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.float32)
        pipeline.set_progress_bar_config(disable=True)

        made = pipeline("red apples", num_inference_steps=2, output_type="np").images

        assert made.shape == (1, 32, 32, 3)
        assert np.isfinite(made).all()

    def test_the_engine_loads_it(self, trained):
        _, model = trained

        loaded = load_model(model)

        assert loaded.default_size == 32
        assert loaded.max_tokens == 48

    def test_weights_are_float16_safetensors_and_nothing_is_pickled(self, trained):
        _, model = trained
        weights = list(model.rglob("*.safetensors"))

        assert len(weights) == 3
        for path in weights:
            kinds = {v.dtype for v in load_file(path).values() if v.is_floating_point()}
            assert kinds == {torch.float16}
        assert {p.suffix for p in model.rglob("*") if p.is_file()} <= {".safetensors", ".json"}

    def test_a_finished_folder_is_not_overwritten(self, trained):
        place, model = trained
        with pytest.raises(FileExistsError, match="holds a model already"):
            stages.export(place, model)


class TestComparison:
    @pytest.mark.parametrize(
        ("said", "names"),
        [
            ("a photo of red apples", True),
            ("a pencil sketch of a dress", True),
            ("a photo at night", False),
            ("a photo of a red cup", False),
        ],
    )
    def test_captions_that_name_the_thing_are_told_from_others(self, said, names):
        assert comparison.names_the_thing(said) == names

    @pytest.mark.slow
    def test_every_variant_is_trained_for_as_long_and_has_a_row(
        self, trained, photographs, monkeypatch
    ):
        # The variants of another width would not be tiny.
        alike = [v for v in comparison.VARIANTS if v.name not in ("narrower", "wider")]
        monkeypatch.setattr(comparison, "VARIANTS", alike)
        place, _ = trained

        folder = stages.compare(place, find_photographs(*photographs), steps=2)

        text = (folder / "COMPARISON.md").read_text()
        assert "2 steps of 2 pictures each" in text
        assert all(f"| {variant.name} |" in text for variant in comparison.VARIANTS)


class Unchanged:
    """Edits that do nothing, to test the judging."""

    def edit(self, request: Request) -> list[dataset.Pixels]:
        return [request.pixels for _ in request.targets]

    def round_trip(self, _pixels: dataset.Pixels, _caption: str) -> RoundTrip:
        return RoundTrip(0.1, 0.1, 0.2, 0.3)


class TestEvaluation:
    @pytest.fixture
    def cases(self, photographs, recipe):
        return evaluation.held_out_cases(find_photographs(*photographs), recipe, 3)

    def test_only_held_out_photographs_are_judged(self, photographs, recipe):
        everything = find_photographs(*photographs)
        held_out = [p for p in everything if p.held_out(recipe.held_out)]

        cases = evaluation.held_out_cases(everything, recipe, 100)

        assert len(cases) == len(held_out) < len(everything)

    def test_edits_that_do_nothing_are_no_better_than_chance(self, cases, recipe):
        figures = assessment.measure(Unchanged(), cases, recipe, [20.0, 30.0])

        assert figures.colour.edited == figures.colour.unedited
        assert figures.colour.inside == 0
        for style in figures.styles.values():
            assert style.edited == style.unedited
            assert style.layout == pytest.approx(1)
        assert figures.errors.ddim_conditional == pytest.approx(0.2)

    def test_colours_cannot_be_judged_without_objects(self, cases, recipe):
        nothing = [case for case in cases if case.thing is None]

        with pytest.raises(ValueError, match="raise --count"):
            assessment.measure(Unchanged(), nothing, recipe, [20.0])

    def test_the_card_takes_every_figure(self, cases, recipe):
        figures = assessment.measure(Unchanged(), cases, recipe, [20.0, 30.0])

        text = card.write(figures, recipe, Settings(), 12_300_000)

        assert "12.3 MB" in text
        assert "| 0.1000 | 0.1000 | 0.2000 | 0.3000 |" in text
        assert "$" not in text

    @pytest.mark.slow
    def test_the_whole_evaluation_runs_on_the_finished_model(self, trained, photographs):
        place, model = trained
        settings = Settings(steps=2)

        assessment.evaluate(place, find_photographs(*photographs), model, 3, settings)

        record = json.loads((model / "figures.json").read_text())
        assert record["errors"]["edict"] == pytest.approx(record["errors"]["vae"], rel=0.01)
        assert record["seconds_per_edit"] > 0
        with Image.open(model / "grid.png") as sheet:
            assert sheet.width > 6 * grid.CELL
        assert "## Limits" in (model / "MODEL_CARD.md").read_text()
