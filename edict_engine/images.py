"""Untrusted bytes to clean RGB images, and images to pixels and back.

Invariant: nothing is decoded before its format, byte count and pixel count were accepted, so a
file that unpacks to gigabytes costs no memory.
"""

import io
from typing import Literal

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from edict_engine.errors import ImageTooLarge, ParameterError, UnreadableImage

#: Formats whose decoders run. Others (EPS runs Ghostscript, PSD, …) are never tried.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
#: EXIF orientations: as stored, and those that exchange width and height.
UPRIGHT = 1
SIDEWAYS = {5, 6, 7, 8}
MAX_BYTES = 64 * 2**20
MAX_PIXELS = 50_000_000

Fit = Literal["crop", "fit"]


def load_image(
    data: bytes,
    *,
    size: int | None = None,
    fit: Fit = "crop",
    multiple: int = 1,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """Decode ``data`` into an RGB image whose sides are multiples of ``multiple``.

    EXIF orientation is applied, transparency lies on white, 16-bit and CMYK become 8-bit RGB, of
    an animation the first frame is taken. For ``size`` and ``fit`` see ``resize``.

    Raises ``ImageTooLarge`` (before decoding), ``UnreadableImage`` or ``ParameterError``.
    """
    if len(data) > max_bytes:
        raise ImageTooLarge(
            f"the file has {len(data):,} bytes and the limit is {max_bytes:,}: send a smaller one"
        )
    image = _open(data)
    width, height = image.size
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"the image has {width}x{height} pixels and the limit is {max_pixels:,}: scale it down"
        )
    return resize(_decode(image), size=size, fit=fit, multiple=multiple)


def image_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) as a viewer shows it, EXIF orientation applied, without decoding.

    Raises ``ImageTooLarge`` or ``UnreadableImage``.
    """
    image = _open(data)
    return image.size[::-1] if _orientation(image) in SIDEWAYS else image.size


def resize(
    image: Image.Image, *, size: int | None, fit: Fit = "crop", multiple: int = 1
) -> Image.Image:
    """Bring ``image`` to a size that a model takes, with Lanczos resampling.

    ``crop`` cuts the largest centred square and scales it to ``size`` by ``size``. ``fit`` keeps
    everything and the aspect ratio: the longer side becomes ``size``, the other the nearest
    multiple. ``size`` None keeps the resolution and trims each side to a multiple.

    Raises ``ParameterError`` if ``size`` is not a positive multiple of ``multiple``, or the image
    is smaller than one multiple and ``size`` is None.
    """
    if size is None:
        return _trim(image, multiple)
    if size < 1 or size % multiple:
        nearest = max(multiple, round(size / multiple) * multiple)
        raise ParameterError(
            f"size is {size}: give a positive multiple of {multiple}, say {nearest}"
        )
    if fit == "crop":
        side = min(image.size)
        return _cut(image, side, side).resize((size, size), Image.Resampling.LANCZOS)
    return image.resize(_fitting(image.size, size, multiple), Image.Resampling.LANCZOS)


def to_pixels(image: Image.Image) -> Tensor:
    """Return an RGB image as float32 (3, H, W) in [-1, 1]."""
    values = torch.from_numpy(np.array(image.convert("RGB")))
    return values.permute(2, 0, 1).to(torch.float32) / 127.5 - 1


def to_image(pixels: Tensor) -> Image.Image:
    """Return pixels (3, H, W) in [-1, 1], clamped, as an 8-bit RGB image."""
    values = ((pixels.to(torch.float32).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(values.permute(1, 2, 0).contiguous().cpu().numpy())


def _open(data: bytes) -> Image.Image:
    """Read the header only."""
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(f"the image unpacks to too many pixels: {error}") from error
    except Exception as error:
        # Hostile headers make Pillow raise nearly anything: OSError, SyntaxError, struct.error …
        raise UnreadableImage(
            f"the file is not a readable image ({error}): send one of {', '.join(FORMATS)}"
        ) from error


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; upright where there is none that can be read."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, UPRIGHT))
    except Exception:  # a damaged note says nothing against the pixels
        return UPRIGHT


def _decode(image: Image.Image) -> Image.Image:
    try:
        image.load()
        upright = image if _orientation(image) == UPRIGHT else ImageOps.exif_transpose(image)
        return _to_rgb(upright)
    except Exception as error:
        raise UnreadableImage(
            f"the {image.format} file is truncated or damaged ({error}): send an intact copy"
        ) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow would clip 16-bit greys at 255 instead of scaling them.
        values = np.clip(np.asarray(image) // 257, 0, 255).astype(np.uint8)
        return Image.fromarray(values).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _trim(image: Image.Image, multiple: int) -> Image.Image:
    """Cut the least from all four sides that makes both multiples."""
    width, height = (side // multiple * multiple for side in image.size)
    if not (width and height):
        raise ParameterError(
            f"the image has {image.width}x{image.height} pixels and its sides must be multiples "
            f"of {multiple}: give a size to scale it to"
        )
    return _cut(image, width, height)


def _cut(image: Image.Image, width: int, height: int) -> Image.Image:
    """Return the centre of ``image``."""
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _fitting(current: tuple[int, int], size: int, multiple: int) -> tuple[int, int]:
    """Return (width, height) with the longer side ``size`` and nearly the aspect of ``current``."""
    scale = size / max(current) / multiple
    width, height = (max(1, round(side * scale)) * multiple for side in current)
    return width, height
