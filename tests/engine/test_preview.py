"""Looking at an edit while it runs."""

import numpy as np
import pytest
import torch
from PIL import Image

from edict_engine.editor import Editor
from edict_engine.engine import Engine
from edict_engine.images import to_pixels
from edict_engine.metrics import psnr
from edict_engine.model import Model, load_model
from edict_engine.parameters import SamplerParameters
from edict_engine.preview import Glance, Projection, watched
from edict_engine.samplers import SAMPLERS, Query
from edict_engine.schedule import Step
from tests.engine.conftest import TINY

SIDE = 64


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(TINY, dtype=torch.float32)


@pytest.fixture
def image() -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def steps(count: int) -> list[Step]:
    return [Step(float(count - n), 0.5, 0.6, -0.25, n, 0.0, 0.0) for n in range(count)]


def test_a_watched_sampler_asks_and_ends_as_it_would_alone():
    def asks():
        total = torch.zeros(1)
        for position in (0, 0, 1, 1):
            total = total + (yield Query(total, 1.0, position))
        return total

    seen: list[Glance] = []
    running = watched(asks(), seen.append)
    queries = [next(running), *(running.send(torch.tensor([float(n)])) for n in (1, 2, 3))]
    with pytest.raises(StopIteration) as end:
        running.send(torch.tensor([4.0]))
    assert end.value.value.item() == 10
    assert [query.latent.item() for query in queries] == [0, 1, 3, 6]
    # The first question of each step, with its own answer.
    assert [(each.position, each.noise.item()) for each in seen] == [(0, 1.0), (1, 3.0)]


def test_what_would_come_out_is_where_the_remaining_steps_lead():
    glance = Glance(torch.tensor([1.0]), torch.tensor([2.0]), position=2)
    assert glance.clean(steps(4)).item() == 1.0 / 0.5 - 2 * 0.25 * 2.0


def test_the_map_of_a_linear_vae_is_found():
    weights = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        pooled = torch.nn.functional.avg_pool2d(pixels, 8).to(torch.float64)
        return torch.einsum("dc,chw->dhw", weights, pooled)

    picture = Projection.fit(encode, 8).picture(encode(torch.full((3, 64, 64), 0.5)))
    assert picture.size == (8, 8)
    assert np.abs(np.asarray(picture).astype(int) - round(1.5 * 127.5)).max() <= 3


@pytest.mark.slow
def test_a_real_vae_s_latents_look_like_their_images(image: Image.Image):
    model = load_model("demo", dtype=torch.float32)
    projection = Projection.fit(model.encode, model.vae_factor)
    small = image.resize((SIDE // model.vae_factor,) * 2, Image.Resampling.BOX)

    shown = projection.picture(model.encode(to_pixels(image)))

    assert shown.size == small.size
    assert psnr(to_pixels(small), to_pixels(shown)) > 15


@pytest.mark.slow
def test_looking_changes_no_bit_and_draws_no_random_number(model: Model, image: Image.Image):
    with Engine(model, rungs=(2,)) as engine:
        editor = Editor(model, engine)
        for sampler in SAMPLERS:
            parameters = SamplerParameters(sampler=sampler, steps=6, strength=0.5, guidance=2.0)
            inversion = editor.invert(image, "a photo", parameters)
            alone = editor.edit(inversion, "a cat")
            before = torch.get_rng_state()
            seen: list[Glance] = []
            watched_edit = editor.edit(inversion, "a cat", look=seen.append)
            previews = [editor.preview(each, parameters) for each in seen]
            assert torch.equal(torch.get_rng_state(), before)
            assert watched_edit.pair.equal(alone.pair), sampler
            assert watched_edit.image.tobytes() == alone.image.tobytes()
            assert [each.position for each in seen] == [0, 1, 2], sampler
            assert {each.size for each in previews} == {(SIDE // model.vae_factor,) * 2}
