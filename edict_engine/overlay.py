"""The source's own pixels around a masked edit.

A masked edit has the source's latent outside of the mask, but not its pixels: the decoder cannot
return all that the encoder was given, and it looks over the mask's rim. So those pixels are taken
from the source, and between them and the edit's the two are blended.

A mask that was found is soft where it is in doubt. One that somebody gave is right to the pixel,
and has a rim that lies outside of it: inside, the edit is as it was made, and a thing keeps no edge
of its old colour (measured: ``tools/train_demo_model/README.md``).

Invariant: all is done on bytes, so where the rim ends the pixels are the source's, byte for byte.
"""

from PIL import Image, ImageFilter


def overlay(edited: Image.Image, source: Image.Image, share: Image.Image) -> Image.Image:
    """Put ``source`` around ``edited``; ``share`` says how much of this each pixel shows, 0 to 255.

    All are of one size.
    """
    return Image.composite(edited, source.convert("RGB"), share)


def rim(mask: Image.Image, width: int) -> Image.Image:
    """Say how much of the edit each pixel shows: 255 in the ``mask``, 0 beyond ``width`` from it.

    Between, along a straight edge, it falls evenly. An odd ``width`` is taken for the one below.
    """
    grown = mask.convert("L").point(lambda value: 255 if value >= 128 else 0)
    half = width // 2
    for _ in range(half):
        grown = grown.filter(ImageFilter.MaxFilter(3))
    # What is averaged around a pixel of the mask lies within ``half`` of it, and so is all white.
    return grown.filter(ImageFilter.BoxBlur(half))
