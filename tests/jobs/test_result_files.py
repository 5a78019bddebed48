"""Result files: the recipe goes in and comes out, and nothing else is taken for one."""

import io
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from jobs.errors import InvalidInput
from jobs.result_files import DIGITAL_SOURCE_TYPE, Recipe, encode, read_recipe
from jobs.results import Output, Result
from jobs.specs import MAX_PROMPT_CHARACTERS, EditSpec, OutputOptions, ReconstructionSpec
from tests.jobs.factories import edit, reconstruction
from tests.jobs.test_specs import specs

FORMATS = ["png", "jpeg", "webp"]
RESULT = Result(
    outputs={"latents": Output(key="inversions/a", sha256="ab" * 32, size=7)},
    model_revision="r1",
    fingerprint="cpu;rows=2",
    generation_fingerprint="cpu;rows=8",
    exact=True,
    max_error=0.0,
    psnr=20.5,
)
PICTURE = Image.effect_noise((24, 16), 90).convert("RGB")


def recipe(spec: EditSpec | ReconstructionSpec | None = None) -> Recipe:
    return Recipe.of(spec or edit(), RESULT, rows=8)


def file(kind: str = "png", made: Recipe | None = None) -> bytes:
    return encode(PICTURE, made or recipe(), OutputOptions(format=kind))


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@settings(max_examples=30, deadline=None)
@given(
    specs.filter(lambda spec: spec.kind != "inversion"),
    st.sampled_from(FORMATS),
)
def test_a_recipe_comes_out_of_every_format_as_it_went_in(
    spec: EditSpec | ReconstructionSpec, kind: str
) -> None:
    made = recipe(spec)

    assert read_recipe(file(kind, made), "a file") == made


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("letter", ["&", '"', "\N{PILE OF POO}", "\ufffe", "\\", "\n"])
def test_the_longest_prompts_fit_whatever_they_are_made_of(kind: str, letter: str) -> None:
    prompt = "x" + letter * (MAX_PROMPT_CHARACTERS - 1)
    made = recipe(edit(prompt=prompt, base_prompt=prompt, negative_prompt=prompt))

    assert read_recipe(file(kind, made), "a file") == made


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_says_that_a_model_made_a_part_of_it(kind: str) -> None:
    info = opened(file(kind)).info
    packet = info["XML:com.adobe.xmp"] if kind == "png" else info["xmp"]

    name = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
    assert ET.fromstring(packet).find(f".//{name}").text == DIGITAL_SOURCE_TYPE  # noqa: S314


def test_a_png_keeps_every_pixel_and_the_lossy_formats_get_smaller_with_less_quality() -> None:
    assert opened(file("png")).tobytes() == PICTURE.tobytes()
    for kind in ("jpeg", "webp"):
        low, high = (
            encode(PICTURE, recipe(), OutputOptions(format=kind, quality=quality))
            for quality in (5, 95)
        )
        assert len(low) < len(high)
        assert opened(low).format == kind.upper()


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_recipe_and_pixels_are_the_same_bytes(kind: str) -> None:
    assert file(kind) == file(kind)


def test_a_repetition_at_the_same_rows_has_the_same_recipe() -> None:
    assert recipe(edit(rows=8)) == recipe(edit())
    assert recipe().digest == edit().digest()


def test_a_picture_of_somebody_else_is_named_as_such() -> None:
    for kind in FORMATS:
        buffer = io.BytesIO()
        PICTURE.save(buffer, kind.upper())
        with pytest.raises(InvalidInput, match=r"cat\.png holds no recipe of ours"):
            read_recipe(buffer.getvalue(), "cat.png")


@pytest.mark.parametrize("data", [b"", b"words", file()[:200], file()[:-60]])
def test_what_is_no_intact_image_is_named_as_such(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="no intact PNG, JPEG or WebP"):
        read_recipe(data, "a.png")


def with_entry(text: str) -> bytes:
    chunks = PngInfo()
    chunks.add_itxt("edict", text)
    buffer = io.BytesIO()
    PICTURE.save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2}'])
def test_a_recipe_that_cannot_be_read_is_named_as_such(text: str) -> None:
    with pytest.raises(InvalidInput, match="damaged, or of a newer version"):
        read_recipe(with_entry(text), "a.png")


def test_a_recipe_that_was_changed_by_hand_is_refused() -> None:
    changed = recipe().model_dump_json().replace("a dog", "a cat")

    with pytest.raises(InvalidInput, match="changed by hand"):
        read_recipe(with_entry(changed), "a.png")


def test_xml_that_declares_entities_is_not_unfolded() -> None:
    bomb = (
        '<!DOCTYPE x [<!ENTITY a "b">]><x xmlns:e="urn:edict:result"><e:recipe>&a;</e:recipe></x>'
    )
    buffer = io.BytesIO()
    PICTURE.save(buffer, "JPEG", xmp=bomb.encode())

    with pytest.raises(InvalidInput, match="no recipe of ours"):
        read_recipe(buffer.getvalue(), "a.jpg")


def test_reconstructions_have_recipes_too() -> None:
    made = recipe(reconstruction())

    assert read_recipe(file("webp", made), "a file").exact
