"""The source image as the model was shown it: what results are to be compared with."""

import io

from PIL import Image, ImageOps

from producer.sources import FORMATS

FALLBACK_SIZE = (512, 512)
"""Where no result tells the model's size."""


def prepared(data: bytes, size: tuple[int, int] | None, fit: str) -> bytes:
    """The image brought to the results' size as the engine does it, as PNG."""
    with Image.open(io.BytesIO(data), formats=list(FORMATS)) as opened:
        image = _to_rgb(ImageOps.exif_transpose(opened))
    if fit == "crop":
        image = _centre_square(image)
    buffer = io.BytesIO()
    image.resize(size or FALLBACK_SIZE, Image.Resampling.LANCZOS).save(buffer, "PNG")
    return buffer.getvalue()


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height, from the header."""
    with Image.open(io.BytesIO(data)) as image:
        return image.size


def _centre_square(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow would clip 16-bit greys at 255 instead of scaling them.
        return image.convert("I").point(lambda value: value * (1 / 257)).convert("L").convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
