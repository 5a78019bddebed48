"""What both sides of the comparison do: images, each edited under several prompts."""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from jobs.specs import EditSpec, ModelRef, SamplerOptions, Source, Spec

BASE_PROMPT = "a photo of red tomatoes"
PROMPTS = ("a photo of green apples", "a pencil sketch", "a photo at night", "a photo of lemons")
PIXELS = 96


@dataclass(frozen=True)
class Work:
    """``images`` pictures, each inverted once and edited under ``edits`` prompts."""

    images: int
    edits: int
    steps: int

    @property
    def jobs(self) -> int:
        """Edited images in all."""
        return self.images * self.edits

    @property
    def prompts(self) -> list[str]:
        """What each picture is edited to."""
        return [f"{PROMPTS[at % len(PROMPTS)]}, {at}" for at in range(self.edits)]

    @property
    def sampler(self) -> SamplerOptions:
        """The editing setting: strength 0.8, guidance 3."""
        return SamplerOptions(steps=self.steps, strength=0.8, guidance_scale=3.0)

    def specs(self, sources: list[Source], model: ModelRef) -> Iterator[Spec]:
        """Return the jobs, image by image."""
        for source in sources:
            for prompt in self.prompts:
                yield EditSpec(
                    source=source,
                    model=model,
                    base_prompt=BASE_PROMPT,
                    edit_prompt=prompt,
                    sampler=self.sampler,
                )


def picture(number: int) -> bytes:
    """Return a PNG of soft blobs, another for each number."""
    coarse = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((PIXELS, PIXELS), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
