"""Bad bytes are refused before they cost anything; good ones become clean RGB."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edict_engine.errors import ImageTooLarge, ParameterError, UnreadableImage
from edict_engine.images import image_size, load_image, to_image, to_pixels


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise_image(width: int = 40, height: int = 24, mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "JPEG", "WEBP"])
def test_every_accepted_format_is_read(kind: str) -> None:
    grey = Image.new("RGB", (32, 16), (120, 120, 120))
    image = load_image(encoded(grey, kind))
    assert (image.mode, image.size) == ("RGB", (32, 16))
    assert np.asarray(image).astype(int) == pytest.approx(120, abs=2)


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"GIF89a", b"\x89PNG\r\n\x1a\n" + bytes(9)],
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadableImage, match="not a readable image"):
        load_image(data)


def test_a_format_outside_the_list_is_refused_even_if_pillow_could_read_it() -> None:
    with pytest.raises(UnreadableImage, match="send one of BMP, GIF, JPEG, PNG"):
        load_image(encoded(noise_image(), "PPM"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_a_truncated_file_is_refused(kind: str) -> None:
    data = encoded(noise_image(200, 200), kind)
    with pytest.raises(UnreadableImage):
        load_image(data[: len(data) // 2])


@pytest.mark.parametrize("side", [8_000, 20_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_from_its_header(side: int) -> None:
    with pytest.raises(ImageTooLarge, match=r"too many pixels|the limit is 50,000,000"):
        load_image(png_header(side, side))


def test_the_limits_are_the_callers() -> None:
    data = encoded(noise_image(40, 24))
    assert load_image(data, max_pixels=960, max_bytes=len(data)).size == (40, 24)
    with pytest.raises(ImageTooLarge, match="40x24 pixels and the limit is 959"):
        load_image(data, max_pixels=959)
    with pytest.raises(ImageTooLarge, match=f"{len(data):,} bytes and the limit is"):
        load_image(data, max_bytes=len(data) - 1)


def test_exif_orientation_is_applied() -> None:
    # Given a landscape whose EXIF says: turn me upright (6: rotate 90 degrees clockwise)
    landscape = Image.new("RGB", (32, 16), "white")
    landscape.paste((0, 0, 0), (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = load_image(encoded(landscape, exif=exif))
    assert upright.size == (16, 32)
    assert upright.getpixel((8, 4)) == (0, 0, 0)
    assert upright.getpixel((8, 28)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "note", [b"garbage!!", b"II*\0\xff\xff\xff\x7f", b"II*\0\x08\0\0\0\xff\xff"]
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_stand_in_the_way_of_the_pixels(kind: str, note: bytes) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 8), "white").save(buffer, kind, exif=b"Exif\0\0" + note)

    assert image_size(buffer.getvalue()) == (16, 8)
    assert load_image(buffer.getvalue()).size == (16, 8)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_on_white(mode: str) -> None:
    image = load_image(encoded(Image.new("RGBA", (16, 16), (0, 0, 0, 0)).convert(mode)))
    assert image.getpixel((8, 8)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_palette_entry_lies_on_white(kind: str) -> None:
    palette = Image.new("RGB", (16, 16), (200, 10, 30)).quantize(2)
    image = load_image(encoded(palette, kind, transparency=palette.getpixel((8, 8))))
    assert image.getpixel((8, 8)) == (255, 255, 255)


def test_half_transparency_is_half_white() -> None:
    image = load_image(encoded(Image.new("RGBA", (16, 16), (0, 0, 0, 128))))
    assert image.getpixel((8, 8)) == (127, 127, 127)


def test_a_palette_becomes_its_colours() -> None:
    image = load_image(encoded(Image.new("RGB", (16, 16), (200, 10, 30)).quantize(4)))
    assert image.getpixel((8, 8)) == (200, 10, 30)


def test_sixteen_bit_greys_are_scaled_and_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    image = load_image(encoded(Image.fromarray(ramp)))
    assert np.asarray(image)[..., 0].ravel().tolist() == list(range(256))


def test_cmyk_becomes_rgb() -> None:
    image = load_image(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))
    red, green, blue = np.asarray(image)[8, 8].tolist()
    assert red > 250
    assert green < 5
    assert blue < 5


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(UnreadableImage, match="floating-point"):
        load_image(encoded(Image.new("F", (16, 16), 0.5), "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    first, second = Image.new("RGB", (16, 16), "white"), Image.new("RGB", (16, 16), "black")
    data = encoded(first, kind, save_all=True, append_images=[second])
    assert load_image(data).getpixel((8, 8)) == (255, 255, 255)


def test_crop_takes_the_largest_centred_square() -> None:
    # Given thirds of red, green and blue
    image = Image.new("RGB", (96, 32), "green")
    image.paste("red", (0, 0, 32, 32))
    image.paste("blue", (64, 0, 96, 32))
    cropped = load_image(encoded(image), size=64, multiple=16)
    assert cropped.size == (64, 64)
    assert {colour for _, colour in cropped.getcolors() or []} == {(0, 128, 0)}


@pytest.mark.parametrize(
    ("current", "expected"), [((640, 480), (64, 48)), ((300, 900), (16, 64)), ((999, 1), (64, 16))]
)
def test_fit_keeps_the_aspect_ratio_up_to_the_multiple(
    current: tuple[int, int], expected: tuple[int, int]
) -> None:
    data = encoded(Image.new("RGB", current))
    assert load_image(data, size=64, fit="fit", multiple=16).size == expected


def test_without_a_size_the_resolution_stays_and_the_edges_are_trimmed() -> None:
    source = noise_image(40, 39)
    image = load_image(encoded(source), multiple=16)
    assert image.size == (32, 32)
    assert image.tobytes() == source.crop((4, 3, 36, 35)).tobytes()


@pytest.mark.parametrize(("size", "remedy"), [(100, "say 96"), (0, "say 16"), (7, "say 16")])
def test_a_size_that_is_no_multiple_is_refused_with_one_that_is(size: int, remedy: str) -> None:
    with pytest.raises(ParameterError, match=f"size is {size}: .* 16, {remedy}"):
        load_image(encoded(noise_image()), size=size, multiple=16)


def test_an_image_below_one_multiple_needs_a_size() -> None:
    with pytest.raises(ParameterError, match=r"40x24 pixels .* multiples of 32"):
        load_image(encoded(noise_image(40, 24)), multiple=32)


def test_every_byte_survives_the_trip_through_pixels() -> None:
    image = Image.fromarray(np.arange(768, dtype=np.uint16).astype(np.uint8).reshape(16, 16, 3))
    pixels = to_pixels(image)
    assert (pixels.shape, pixels.dtype) == ((3, 16, 16), torch.float32)
    assert (pixels.min().item(), pixels.max().item()) == (-1.0, 1.0)
    assert to_image(pixels).tobytes() == image.tobytes()


def test_pixels_outside_the_range_are_clamped() -> None:
    image = to_image(torch.tensor([-3.0, 0.0, 3.0]).reshape(3, 1, 1))
    assert image.getpixel((0, 0)) == (0, 128, 255)
