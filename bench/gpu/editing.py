"""Images inverted and edited a second, as a worker does it: ``Editor`` over ``Engine``.

Every image is a caller's thread of its own that inverts it and edits the inversion. VAE and text
encoder are inside the clock. Afterwards, outside of it, some inversions are generated back, and
one image is inverted once more beside them: in a batch of other neighbours, at another place.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from bench.engine.loop import synchronise
from bench.engine.recipe import BASE, EDIT, make_images
from bench.gpu.rates import peak_megabytes, reset_peak
from edict_engine.attention import RowControl
from edict_engine.conditioning import Conditioning
from edict_engine.editor import Edited, Editor, Reconstruction
from edict_engine.images import to_image
from edict_engine.latent_file import Inversion
from edict_engine.model import Model
from edict_engine.parameters import SamplerParameters


@dataclass(frozen=True)
class Edits:
    """One run. ``rows``: those of the batches.

    ``unet_share``: of the time, that in which the UNet ran. ``round_trip_max_error``: the largest
    of the ``round_trips`` that were made. ``same_beside_others``: an image that was inverted again
    beside other work came out with the same bits.
    """

    images: int
    steps: int
    rows: int
    seconds: float
    images_per_second: float
    unet_share: float
    peak_megabytes: float | None
    round_trips: int
    round_trip_max_error: float
    same_beside_others: bool


class Watched:
    """A model's network, and how long it ran: between two events on a GPU, which waits for none."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.device = model.device
        self.controls_apart = model.controls_apart
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds = 0.0

    def denoise(
        self,
        latents: Tensor,
        timesteps: Tensor,
        contexts: Conditioning,
        controls: Sequence[RowControl] = (),
    ) -> Tensor:
        """Time one call."""
        if self.device.type != "cuda":
            begun = time.perf_counter()
            noise = self._model.denoise(latents, timesteps, contexts, controls)
            self._seconds += time.perf_counter() - begun
            return noise
        begin, end = _event(), _event()
        begin.record()
        noise = self._model.denoise(latents, timesteps, contexts, controls)
        end.record()
        self._events.append((begin, end))
        return noise

    def take_seconds(self) -> float:
        """Return the seconds since the last time."""
        synchronise(self.device)
        milliseconds = sum(begin.elapsed_time(end) for begin, end in self._events)
        seconds: float = self._seconds + milliseconds / 1000
        self._seconds = 0.0
        self._events.clear()
        return seconds


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def measure(editor: Editor, network: Watched, parameters: SamplerParameters, count: int) -> Edits:
    """Invert and edit ``count`` images, all at once. ``network`` is what the engine runs."""
    images = [to_image(pixels) for pixels in make_images(editor.model.default_size, count)]
    # The first calls of the VAE and the text encoder are outside the clock.
    _invert_and_edit(editor, images[0], replace(parameters, steps=1, strength=1.0))
    network.take_seconds()
    reset_peak(network.device)
    with ThreadPoolExecutor(count) as pool:
        begun = time.perf_counter()
        made = list(pool.map(lambda image: _invert_and_edit(editor, image, parameters), images))
        seconds = time.perf_counter() - begun
    inversions = [inversion for inversion, _ in made]
    unet_seconds, peak = network.take_seconds(), peak_megabytes(network.device)
    back, again = _check(editor, inversions, images[-1])
    return Edits(
        images=count,
        steps=parameters.steps,
        rows=inversions[0].rung,
        seconds=seconds,
        images_per_second=count / seconds,
        unet_share=unet_seconds / seconds,
        peak_megabytes=peak,
        round_trips=len(back),
        round_trip_max_error=max(each.max_error for each in back),
        same_beside_others=again.pair.equal(inversions[-1].pair),
    )


def _invert_and_edit(
    editor: Editor, image: Image.Image, parameters: SamplerParameters
) -> tuple[Inversion, Edited]:
    inversion = editor.invert(image, BASE, parameters)
    return inversion, editor.edit(inversion, EDIT)


def _check(
    editor: Editor, inversions: Sequence[Inversion], last: Image.Image
) -> tuple[list[Reconstruction], Inversion]:
    """Generate back as many as share a batch with another inversion of the ``last`` image."""
    room = max(1, inversions[0].rung // 2 - 1)
    with ThreadPoolExecutor(room + 1) as pool:
        back = [pool.submit(editor.reconstruct, inversion) for inversion in inversions[:room]]
        again = pool.submit(editor.invert, last, BASE, inversions[-1].parameters)
        return [each.result() for each in back], again.result()
