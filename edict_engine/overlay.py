"""The source's own pixels around a masked edit.

A masked edit has the source's latent outside of the mask, but not its pixels: the decoder cannot
return all that the encoder was given, and it looks over the mask's rim. So those pixels are taken
from the source, and between them and the edit's the two are blended.

The rim lies outside of the mask: inside, the edit is as it was made, and a thing keeps no edge of
its old colour. It is one latent cell wide, which is how far the decoder carries most of a latent.

Invariant: all is done on bytes, so where the rim ends the pixels are the source's, byte for byte.
"""

from PIL import Image, ImageFilter


def overlay(
    edited: Image.Image, source: Image.Image, mask: Image.Image, cell: int
) -> tuple[Image.Image, Image.Image]:
    """Put ``source`` around the ``mask``, white where the edit belongs; all are of one size.

    ``cell`` is a latent's width in pixels, even. Returns the image, and what of it may not be the
    source's own pixels: white in the mask and on its rim, black elsewhere.
    """
    share = rim(mask, cell)
    pasted = Image.composite(edited, source.convert("RGB"), share)
    return pasted, share.point(lambda value: 255 if value else 0)


def rim(mask: Image.Image, cell: int) -> Image.Image:
    """Say how much of the edit each pixel shows: 255 in the ``mask``, 0 a ``cell`` and more away.

    Between, along a straight edge, it falls evenly.
    """
    grown = mask.convert("L").point(lambda value: 255 if value >= 128 else 0)
    half = cell // 2
    for _ in range(half):
        grown = grown.filter(ImageFilter.MaxFilter(3))
    # What is averaged around a pixel of the mask lies within ``half`` of it, and so is all white.
    return grown.filter(ImageFilter.BoxBlur(half))
