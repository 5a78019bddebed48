"""Masked edits as jobs: what may change, and what is kept around it."""

import io

import numpy as np
import pytest
from PIL import Image

from edict_engine.images import load_image
from jobs.result_files import read_recipe
from jobs.specs import OutputOptions
from jobs.states import State
from tests.worker.conftest import Bench, picture


def white_left_of(column: int, size: tuple[int, int] = (64, 48)) -> bytes:
    mask = Image.new("L", size, 0)
    mask.paste(255, (0, 0, column, size[1]))
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_masked_edit_stores_the_image_and_what_could_change(bench: Bench):
    mask = bench.source(white_left_of(24), "mask.png")

    users, found = bench.run(bench.edit("a cat", mask=mask), bench.edit("a cat", mask="auto"))

    for job in (users, found):
        assert job.state == State.SUCCEEDED
        assert set(job.result.outputs) == {"latents", "image", "sidecar", "thumbnail", "mask"}
    key = users.result.outputs["mask"].key
    inside = np.asarray(Image.open(io.BytesIO(bench.objects.get(key))))
    # The centre square of 64x48 begins at column 8: of its 48 columns, a third is white.
    assert 0.3 < (inside > 0).mean() < 0.4


def test_a_masked_edit_has_the_same_bytes_whether_its_image_was_inverted_just_before_or_once(
    bench: Bench,
):
    asked = []
    invert = bench.editor.invert
    bench.editor.invert = lambda *a, **o: (asked.append(o["for_masks"]), invert(*a, **o))[1]
    try:
        [before] = bench.run(bench.edit("a cat", mask="auto"))
        # Another question, which is told by its rows; it finds what the first has stored.
        [after] = bench.run(bench.edit("a cat", mask="auto", rows=2))
        bench.run(bench.edit(source=bench.source(picture(1), "other.png")))
    finally:
        del bench.editor.invert

    assert asked == [True, False]
    assert (before.result.inversion_reused, after.result.inversion_reused) == (False, True)
    for role in ("image", "mask"):
        assert before.result.outputs[role].sha256 == after.result.outputs[role].sha256


def prepared(bench: Bench) -> np.ndarray:
    """The source of the bench's jobs as the worker prepares it."""
    model = bench.editor.model
    image = load_image(picture(), size=model.default_size, multiple=model.pixel_factor)
    return np.asarray(image)


def pixels(bench: Bench, job, role: str = "image") -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(bench.objects.get(job.result.outputs[role].key))))


def test_a_masked_edit_that_keeps_pixels_has_the_sources_bytes_around_its_mask(bench: Bench):
    mask = bench.source(white_left_of(24), "mask.png")
    wish = bench.edit("a cat", mask=mask)

    bare, kept = bench.run(wish, wish.model_copy(update={"keep_pixels": True}))

    changed = pixels(bench, kept, "mask") == 255
    source, made = prepared(bench), pixels(bench, kept)
    assert changed.any()
    assert not changed.all()
    assert np.array_equal(made[~changed], source[~changed])
    assert not np.array_equal(made[changed], source[changed])
    assert not np.array_equal(pixels(bench, bare)[~changed], source[~changed])
    # The figures are of the image that is stored.
    assert kept.result.mask_area == pytest.approx(changed.mean())
    assert kept.result.psnr > bare.result.psnr
    assert kept.result.similarity > bare.result.similarity
    assert read_recipe(bench.objects.get(kept.result.outputs["image"].key), "it").spec.keep_pixels


def test_pixels_are_kept_where_the_inversion_was_stored_before(bench: Bench):
    bench.run(bench.inversion())

    [job] = bench.run(bench.edit("a cat", mask="auto", keep_pixels=True))

    kept = pixels(bench, job, "mask") == 0
    assert job.result.inversion_reused
    assert np.array_equal(pixels(bench, job)[kept], prepared(bench)[kept])


def test_pixels_of_a_source_that_is_gone_cannot_be_kept_and_the_job_says_which(bench: Bench):
    bench.run(bench.inversion())
    edit = bench.edit("a cat", mask="auto", keep_pixels=True)
    bench.objects.delete("sources/image.png")

    [job] = bench.run(edit)

    assert (job.state, job.error_code) == (State.FAILED, "source_refused")
    assert "sources/image.png" in job.error_message


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_in_a_lossy_file_kept_pixels_differ_by_what_the_format_loses_and_no_more(
    bench: Bench, kind: str
):
    mask = bench.source(white_left_of(24), "mask.png")
    wish = bench.edit("a cat", mask=mask, output=OutputOptions(format=kind))

    bare, kept = bench.run(wish, wish.model_copy(update={"keep_pixels": True}))

    black = pixels(bench, kept, "mask") == 0
    source = prepared(bench)[black].astype(int)
    lost, decoded = (np.abs(pixels(bench, job)[black] - source).mean() for job in (kept, bare))
    assert 0 < lost < decoded / 2


def test_a_mask_of_another_size_than_its_image_fails_its_own_job(bench: Bench):
    mask = bench.source(white_left_of(24, (48, 64)), "mask.png")

    bad, good = bench.run(bench.edit("a cat", mask=mask), bench.edit("a cat"))

    assert (bad.state, good.state) == (State.FAILED, State.SUCCEEDED)
    assert bad.error_code == "bad_parameter"
    assert "mask has 48x64 pixels and the image 64x48" in bad.error_message
