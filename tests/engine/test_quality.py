"""Measures on pictures whose answers are known, and the comparison of samplers."""

import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torchmetrics.functional.image.lpips import learned_perceptual_image_patch_similarity
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from edict_engine.editor import Editor
from edict_engine.engine import Engine
from edict_engine.errors import Cancelled, ModelNotFound, ModelNotUsable, ParameterError
from edict_engine.images import to_pixels
from edict_engine.parameters import SamplerParameters
from edict_engine.quality import measures, words
from edict_engine.quality.comparison import (
    Method,
    edit,
    edits,
    network_calls,
    reconstruct,
    round_trips,
    run_methods,
)
from edict_engine.quality.rate import Rate
from edict_engine.quality.records import (
    EditedRecord,
    EditRow,
    Reconstructed,
    ReconstructionRow,
    as_json,
    mean,
)
from edict_engine.quality.similarity import Clip
from edict_engine.samplers import SAMPLERS
from tests.weights import place_lpips, write_clip

from .conftest import tiny_model

FEW = SamplerParameters(steps=2, strength=1.0, guidance=7.0)
EXACT = {name for name, sampler in SAMPLERS.items() if sampler.exact}
GREY = Image.new("RGB", (32, 32), (100, 100, 100))


def photo(seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    return Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2))


def square(colour: tuple[int, int, int]) -> Image.Image:
    """Something of a colour on grey."""
    image = GREY.copy()
    image.paste(colour, (8, 8, 24, 24))
    return image


def picture(image: Image.Image) -> words.Picture:
    return words.to_picture(np.asarray(image))


@pytest.fixture(scope="module")
def editor() -> Iterator[Editor]:
    model = tiny_model(torch.float32)
    with Engine(model, rungs=(4,)) as engine:
        yield Editor(model, engine)


def never() -> bool:
    return False


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def lpips(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[measures.Lpips]:
    place_lpips(monkeypatch, tmp_path)
    found = measures.find_lpips()
    assert found is not None
    yield found
    measures._load_lpips.cache_clear()


class TestMeasures:
    def test_one_grey_level_is_its_square_in_mse(self) -> None:
        lighter = Image.new("RGB", (32, 32), (151, 151, 151))
        found = measures.compare(lighter, GREY)
        assert found.mse == pytest.approx((51 / 127.5) ** 2)
        assert found.psnr == pytest.approx(20 * math.log10(255 / 51))
        assert found.lpips is None

    def test_an_image_is_nothing_away_from_itself(self) -> None:
        found = measures.compare(photo(), photo())
        assert (found.mse, found.psnr) == (0, math.inf)
        assert found.ssim == pytest.approx(1, abs=1e-5)
        assert measures.structure_distance(photo(), photo()) == pytest.approx(0, abs=1e-6)

    def test_only_what_lies_outside_of_the_mask_counts(self) -> None:
        mask = Image.new("L", (32, 32), 0)
        mask.paste(255, (8, 8, 24, 24))
        changed = square((200, 0, 0))
        assert measures.psnr_outside(changed, GREY, mask) == math.inf
        changed.putpixel((0, 0), (101, 101, 101))
        error = (1 / 127.5) ** 2 / (32 * 32 - 16 * 16)
        assert measures.psnr_outside(changed, GREY, mask) == pytest.approx(
            10 * math.log10(4 / error)
        )
        assert measures.psnr_outside(changed, GREY, Image.new("L", (32, 32), 255)) is None

    def test_structure_is_lines_and_not_light(self) -> None:
        darker = Image.fromarray(np.asarray(photo()) // 2)
        assert measures.structure_distance(darker, photo()) < 0.05
        assert measures.structure_distance(photo(1), photo()) > 0.5
        assert measures.structure_distance(GREY, GREY) == 0
        assert measures.structure_distance(GREY, photo()) == 1

    def test_lpips_is_absent_with_a_reason_and_without_a_download(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(measures, "find_spec", lambda _: None)
        assert measures.why_no_lpips() == "torchvision is not installed"
        monkeypatch.setattr(measures, "find_spec", lambda _: object())
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        assert str(tmp_path) in (measures.why_no_lpips() or "")
        assert measures.find_lpips() is None

    def test_with_its_weights_lpips_is_that_of_torchmetrics(self, lpips: measures.Lpips) -> None:
        one, other = to_pixels(photo(0)), to_pixels(photo(1))
        expected = learned_perceptual_image_patch_similarity(one[None], other[None], "alex")
        assert lpips(one, other) == pytest.approx(expected.item(), rel=1e-5)
        assert lpips(one, other) > lpips(one, one + 0.01) > lpips(one, one) == 0
        assert measures.compare(photo(1), photo(0), lpips).lpips == lpips(other, one)

    def test_threads_that_measure_lpips_at_once_do_not_mix(self, lpips: measures.Lpips) -> None:
        pairs = [(to_pixels(photo(seed)), to_pixels(photo(seed + 1))) for seed in range(12)]
        alone = [lpips(*pair) for pair in pairs]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda pair: lpips(*pair), pairs)) == alone


class TestWords:
    @pytest.mark.parametrize(
        ("base", "target", "expected"),
        [
            ("red apples", "blue apples", {"blue": True}),
            ("red apples", "a photo of GREEN apples", {"green": False}),
            ("red apples", "red apples", {}),
            ("apples", "oranges", {}),
            ("apples", "a pencil sketch of blue apples", {"sketch": False}),
            ("apples", "apples at night", {"night": False}),
        ],
    )
    def test_what_the_edit_asks_for_anew_is_judged(
        self, base: str, target: str, expected: dict[str, bool]
    ) -> None:
        before, after = picture(square((200, 30, 30))), picture(square((30, 90, 200)))
        assert words.verdicts(base, target, before, after) == expected

    def test_a_colour_elsewhere_than_in_the_mask_does_not_count(self) -> None:
        before, after = picture(GREY), picture(square((30, 90, 200)))
        corner = np.zeros((32, 32), np.float32)
        corner[:8, :8] = 1
        assert words.verdicts("a", "a blue cup", before, after, corner) == {"blue": False}
        assert words.verdicts("a", "a blue cup", before, after, 1 - corner) == {"blue": True}
        assert words.verdicts("a", "a blue cup", before, after, 0 * corner) == {"blue": False}

    def test_losing_the_colour_is_black_and_white(self) -> None:
        before = picture(square((200, 30, 30)))
        after = picture(square((200, 30, 30)).convert("L").convert("RGB"))
        asked = ("a photo", "a black and white photo")
        assert words.verdicts(*asked, before, after) == {"black and white": True}
        assert words.verdicts(*asked, before, before) == {"black and white": False}


class TestClip:
    def test_similarity_is_a_cosine_of_image_and_prompt(self, folder: Path) -> None:
        clip = Clip(folder)
        found = clip.similarity(photo(), "a cat")
        assert -1 <= found <= 1
        assert found == clip.similarity(photo(), "a cat")
        assert found != clip.similarity(photo(1), "a cat")
        assert found != clip.similarity(photo(), "a dog")
        assert math.isfinite(clip.similarity(photo(), "word " * 200))

    def test_it_is_what_clip_itself_says(self, folder: Path) -> None:
        model, tokenizer = (kind.from_pretrained(folder) for kind in (CLIPModel, CLIPTokenizer))
        size = {"height": 32, "width": 32}
        prepare = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=size)
        pixels = prepare(photo(), return_tensors="pt").pixel_values
        with torch.inference_mode():
            said = model(pixel_values=pixels, **tokenizer("a cat", return_tensors="pt"))
        # CLIP's own logits are the cosines times a scale that it learnt.
        cosine = said.logits_per_image.item() / model.logit_scale.exp().item()
        assert Clip(folder).similarity(photo(), "a cat") == pytest.approx(cosine, abs=1e-5)

    def test_what_is_no_clip_model_is_refused(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(ModelNotFound, match="no folder"):
            Clip(tmp_path / "nothing")
        with pytest.raises(ModelNotUsable, match="no CLIP model"):
            Clip(tmp_path)


class TestComparison:
    def test_every_sampler_that_inverts_is_a_method_and_ddim_is_two(self) -> None:
        methods = {method.name: method for method in round_trips(FEW)}
        samplers = {name for name in SAMPLERS if name not in ("ddim", "sdedit")}
        assert set(methods) == {"vae", "ddim-c", "ddim-uc"} | samplers
        plain = methods["ddim-uc"]
        assert plain.parameters is not None
        assert (plain.parameters.guidance, plain.prompted) == (1.0, False)
        assert {method.name for method in edits(FEW)} == {"vae", *SAMPLERS}

    def test_exact_samplers_lose_what_the_vae_loses(self, editor: Editor) -> None:
        images = [(f"{seed}", photo(seed)) for seed in range(3)]

        def work(method: Method, image: Image.Image) -> Reconstructed:
            back = reconstruct(editor, method, image, "a cat", never)
            return Reconstructed.of(back, measures.compare(back.image, image))

        outcomes = list(run_methods(round_trips(FEW), images, work, rows=6))
        rows = {
            outcome.method.name: ReconstructionRow.of(
                outcome, network_calls(editor, outcome.method)
            )
            for outcome in outcomes
        }
        assert {row.images for row in rows.values()} == {3}
        assert "edict" in EXACT
        for name in EXACT:
            assert rows[name].mse == pytest.approx(rows["vae"].mse, abs=1e-6)
            assert (rows[name].exact, rows[name].max_error) == (1, 0)
        assert rows["ddim-c"].mse != rows["vae"].mse
        assert (rows["ddim-c"].exact, (rows["ddim-c"].max_error or 0) > 0) == (0, True)
        assert (rows["vae"].network_calls, rows["edict"].network_calls) == (0, 8)

    def test_every_sampler_edits_and_the_unedited_image_is_beside_them(
        self, editor: Editor
    ) -> None:
        prompts = ("a cat", "a blue cat")
        made = {m.name: edit(editor, m, photo(), prompts, never) for m in edits(FEW)}
        assert {image.size for image in made.values()} == {(32, 32)}
        assert made["edict"].tobytes() != made["vae"].tobytes()

    def test_one_failure_is_named_and_stops_nothing(self) -> None:
        def work(_: Method, item: int) -> int:
            if item == 1:
                raise ParameterError("too odd")
            return item

        items = [(f"image {item}", item) for item in range(3)]
        [outcome] = run_methods([Method("vae")], items, work, rows=2)
        assert outcome.results == (0, 2)
        [failure] = outcome.failures
        assert (failure.name, failure.method, failure.message) == ("image 1", "vae", "too odd")

    def test_a_stop_ends_all_of_it(self, editor: Editor) -> None:
        stop = threading.Event()
        stop.set()
        method = Method("edict", SamplerParameters(steps=500, strength=1.0))

        def work(method: Method, image: Image.Image) -> Image.Image:
            return reconstruct(editor, method, image, "a cat", stop.is_set).image

        with pytest.raises(Cancelled):
            list(run_methods([method], [("one", photo())] * 9, work, rows=6))


class TestRecords:
    def test_what_could_not_be_measured_is_left_out_of_the_mean(self) -> None:
        assert mean([1.0, None, 3.0]) == 2
        assert mean([None]) is None

    def test_a_rows_words_are_counted_and_masked_images_have_no_structure(self) -> None:
        def work(_: Method, record: EditedRecord) -> EditedRecord:
            return record

        items = [
            ("a", EditedRecord(math.inf, 0.5, None, {"blue": True})),
            ("b", EditedRecord(None, 0.25, None, {"night": False, "warm": True})),
            ("c", EditedRecord(None, 0.75, None, {})),
        ]
        [outcome] = run_methods([Method("vae")], items, work, rows=1)
        row = EditRow.of(outcome, 0)
        assert (row.structure_distance, row.clip, row.obeyed) == (0.5, None, Rate(2, 3))
        assert as_json(row)["psnr_outside"] == "inf"
