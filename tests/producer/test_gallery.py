"""The gallery: one file, nothing from outside, nothing of a prompt read as HTML."""

import base64
import hashlib
import io
import re
from pathlib import Path

import pytest
from PIL import Image

from producer.client import Client
from producer.gallery import Credit, Summary, write_gallery
from producer.gallery.build import Card, Picture, render
from producer.gallery.originals import prepared
from producer.gallery.words import changed_words
from tests.producer.conftest import Edict, Finish, png

NASTY = "</style><script>alert(1)</script><img src=x onerror=alert(2)> \" ' &"


def _page(card: Card) -> str:
    return render([card], Summary(NASTY, [(NASTY, NASTY)]))


@pytest.fixture
def nasty_page() -> str:
    words = changed_words("a photo", NASTY)
    pictures = [Picture(NASTY, words, trouble=NASTY, note=NASTY), Picture("", words, uri="data:,")]
    return _page(Card(NASTY, NASTY, NASTY, NASTY, exact=True, psnr=20.0, pictures=pictures))


def test_prompts_are_text_whatever_they_hold(nasty_page: str) -> None:
    assert "<script" not in nasty_page
    assert "onerror=alert(2)>" not in nasty_page
    assert nasty_page.count("</style>") == 1
    assert set(re.findall(r"<img [^>]*?src=\"([^\"]*)\"", nasty_page)) == {"data:,"}


def test_the_page_asks_nobody_for_anything(nasty_page: str) -> None:
    assert not re.search(r"""(?:src|href|action)\s*=\s*["']?(?!data:)[a-z]+:?/""", nasty_page)
    assert "url(" not in nasty_page
    assert "@import" not in nasty_page
    assert "default-src 'none'; img-src data:" in nasty_page


def test_the_policy_allows_just_the_style_that_is_there(nasty_page: str) -> None:
    [style] = re.findall(r"<style>(.*?)</style>", nasty_page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in nasty_page
    assert " style=" not in nasty_page


def test_a_batch_becomes_a_card_for_each_image(
    edict: Edict, finish: Finish, client: Client, photo: Path, tmp_path: Path
) -> None:
    # Given a reconstruction and an edit of one image, and an edit that failed
    shared = ["--from", "a photo of lemons", "--batch", "fruit"]
    edict("submit", "reconstruct", photo, *shared)
    edict("submit", "edit", photo, "--to", "a photo of limes", *shared)
    finish("fruit", png((16, 16), "navy"))
    edict("submit", "edit", photo, "--to", "a photo of <i>", *shared)
    batch = client.store.batch("fruit").id
    last = client.store.jobs_of(batch)[-1].id
    [claim] = client.store.claim([last], "test", lease=30)
    client.store.fail(claim, "bad_prompt", "no such thing as <i>")
    jobs = client.store.jobs_of(batch)
    # When the gallery is written
    page = tmp_path / "index.html"
    origin = {jobs[0].spec.source.sha256: Credit("Lemons & limes", "by me")}
    write_gallery(
        page,
        jobs,
        client.objects,
        Summary("Fruit", [("1", "image")]),
        origins=origin,
        max_source_bytes=10_000,
    )
    # Then it shows the prepared original, both results and the failure's reason
    text = page.read_text()
    assert text.count("<article>") == 1
    images = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    sizes = [Image.open(io.BytesIO(base64.b64decode(image))).size for image in images]
    assert sizes == [(16, 16)] * 3
    assert "Lemons &amp; limes" in text
    assert "exact round trip: yes" in text
    assert "PSNR 20.0 dB" in text
    assert "<b>limes</b>" in text
    assert "no such thing as &lt;i&gt;" in text


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "CMYK", "I;16", "1"])
def test_the_original_is_prepared_as_the_engine_does_it(mode: str) -> None:
    pytest.importorskip("torch")
    from edict_engine.images import load_image

    data = png_of(mode, (201, 90))
    shown = Image.open(io.BytesIO(prepared(data, (64, 64), "crop")))
    assert shown.tobytes() == load_image(data, size=64).tobytes()


def png_of(mode: str, size: tuple[int, int]) -> bytes:
    """Ramps and noise in that mode; TIFF where PNG has no such mode."""
    buffer = io.BytesIO()
    noise = Image.effect_noise(size, 80)
    if mode == "I;16":
        image = Image.frombytes(mode, size, bytes(range(256)) * (size[0] * size[1] * 2 // 256 + 1))
    else:
        image = noise.convert(mode) if mode != "CMYK" else noise.convert("RGB").convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(noise)
    image.save(buffer, "TIFF" if mode == "CMYK" else "PNG")
    return buffer.getvalue()


def test_the_words_that_an_edit_changes_are_marked() -> None:
    words = changed_words("a photo of yellow lemons", "a photo of blue lemons at night")
    assert [word.text for word in words if word.new] == ["blue", "at", "night"]
