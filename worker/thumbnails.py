"""Results made small, for pages that show many of them."""

import io

from PIL import Image

THUMBNAIL_PIXELS = 256
"""Of the longer side, at most; a smaller picture keeps its size."""
QUALITY = 80


def thumbnail(image: Image.Image) -> bytes:
    """The image as a small WebP. The same pixels give the same bytes."""
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=QUALITY)
    return buffer.getvalue()
