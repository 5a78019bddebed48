"""Each result has a small picture beside it, and pages take that."""

import io
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jobs.retention import What
from producer.client import Client
from producer.dashboard.pictures import Pictures
from producer.gallery import SMALL, WHOLE, Summary, write_gallery
from producer.retention import Pruner
from tests.worker.conftest import Bench
from worker.thumbnails import THUMBNAIL_PIXELS, thumbnail


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@settings(max_examples=20, deadline=None)
@given(width=st.integers(1, 600), height=st.integers(1, 600))
def test_a_thumbnail_keeps_the_shape_and_is_no_larger_than_the_picture(width: int, height: int):
    small = opened(thumbnail(Image.new("RGB", (width, height), "teal")))
    assert small.format == "WEBP"
    assert max(small.size) == min(max(width, height), THUMBNAIL_PIXELS)
    wished = min(width, height) * max(small.size) / max(width, height)
    assert abs(min(small.size) - wished) <= 1


def test_the_same_pixels_give_the_same_bytes():
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    assert thumbnail(image) == thumbnail(image.copy())


@pytest.mark.parametrize("kind", ["edit", "reconstruction"])
def test_a_result_has_a_thumbnail_of_its_own(bench: Bench, kind: str):
    [job] = bench.run(getattr(bench, kind)())

    outputs = job.result.outputs
    small = opened(bench.objects.get(outputs["thumbnail"].key))
    whole = opened(bench.objects.get(outputs["image"].key)).convert("RGB")
    assert (small.format, small.size) == ("WEBP", whole.size)
    difference = np.asarray(small.convert("RGB")).astype(int) - np.asarray(whole)
    assert np.abs(difference).mean() < 25
    assert outputs["thumbnail"].key.startswith(f"results/{job.id}/")


def test_an_inversion_has_none(bench: Bench):
    [job] = bench.run(bench.inversion())
    assert set(job.result.outputs) == {"latents"}


def test_pages_take_the_thumbnail_and_old_results_are_made_small(bench: Bench, client: Client):
    [job] = bench.run(bench.edit())
    outputs = job.result.outputs
    small = bench.objects.get(outputs["thumbnail"].key)

    assert Pictures(client, job).picture("image", 256) == (small, "image/webp")
    # Nothing but the thumbnail is read.
    whole = bench.objects.get(outputs["image"].key)
    bench.objects.delete(outputs["image"].key)
    assert Pictures(client, job).picture("image", 256) == (small, "image/webp")
    bench.objects.put(outputs["image"].key, whole, "image/png")
    bench.objects.delete(outputs["thumbnail"].key)
    data, media_type = Pictures(client, job).picture("image", 256)
    assert (opened(data).size, media_type) == (opened(small).size, "image/webp")


@pytest.mark.parametrize(("roles", "kind"), [(SMALL, "webp"), (WHOLE, "png")])
def test_a_page_to_send_has_the_size_that_was_asked_for(
    bench: Bench, tmp_path: Path, roles: tuple[str, ...], kind: str
):
    [job] = bench.run(bench.edit())
    page = tmp_path / "page.html"
    summary = Summary("one", [])
    write_gallery(page, [job], bench.objects, summary, max_source_bytes=10**6, roles=roles)
    # The original besides, as it was prepared.
    assert page.read_text().count("data:image/webp") == (kind == "webp")
    assert page.read_text().count("data:image/png") == (1 if kind == "webp" else 2)


def test_it_is_pruned_with_its_result(bench: Bench):
    [job] = bench.run(bench.edit())
    keys = {role: output.key for role, output in job.result.outputs.items()}
    bench.store.set_retention(What.RESULTS, 0.0, None)
    Pruner(bench.store, bench.objects, Event()).run()
    there = {role for role, key in keys.items() if bench.objects.size(key) is not None}
    assert there == {"latents"}
    assert "thumbnail" in bench.store.job(job.id).result.pruned
