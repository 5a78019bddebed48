"""Invert, edit, reconstruct: the engine's parts composed into what an application calls.

Every method blocks its thread and may be called from any number of threads at once; the device
work of all of them meets in the engine's batches.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from PIL import Image
from torch import Tensor

from edict_engine.engine import Engine
from edict_engine.errors import ModelMismatch, ParameterError
from edict_engine.fixed_point import LatentPair, quantise, to_float
from edict_engine.group import Trajectory
from edict_engine.guidance import ClassifierFree
from edict_engine.images import to_image, to_pixels
from edict_engine.latent_file import Inversion
from edict_engine.metrics import psnr
from edict_engine.model import Model
from edict_engine.parameters import SamplerParameters, check_guidance
from edict_engine.samplers import Sampler, get_sampler
from edict_engine.schedule import Step
from edict_engine.ticket import Ticket

T = TypeVar("T")
OnProgress = Callable[[int, int], None]
ShouldStop = Callable[[], bool]

#: Seconds between two looks at a ticket while there is someone to tell or to ask.
POLL_INTERVAL = 0.5


@dataclass(frozen=True)
class Reconstruction:
    """An image after inversion and generation, and how it compares.

    ``exact``: every integer of the latent pair came back. ``max_error``: the largest difference
    from the image's latent, in latent units (0 if exact). ``same_as_vae``: the 8-bit image equals
    the VAE's own round trip, so all that is lost is what the VAE loses. ``psnr`` and ``vae_psnr``,
    dB against the source image: of this image and of the VAE's own round trip; None without a
    source, ``inf`` for equal images.
    """

    image: Image.Image
    exact: bool
    max_error: float
    same_as_vae: bool
    psnr: float | None
    vae_psnr: float | None


class Editor:
    """Composes a ``model`` with the ``engine`` that runs it.

    Options that the methods share: higher ``priority`` starts first; ``on_progress`` is told of
    turns done and their total, ``should_stop`` is asked whether to give up. Both are called on the
    waiting thread, about every ``POLL_INTERVAL`` seconds. All methods raise ``ParameterError``,
    ``PromptTooLong``, ``Diverged``, ``OutOfMemory``, ``Cancelled`` and ``EngineClosed``.
    """

    def __init__(self, model: Model, engine: Engine) -> None:
        self.model = model
        self.engine = engine

    def invert(
        self,
        image: Image.Image,
        prompt: str,
        parameters: SamplerParameters,
        *,
        priority: int = 0,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Inversion:
        """Invert ``image``, which ``prompt`` describes, to noise.

        Its sides must be multiples of ``model.pixel_factor`` (``ParameterError``).
        """
        errand = _Errand(self.engine, priority, on_progress, should_stop)
        sampler, grid = self._sampler(parameters)
        pixels = self._pixels(image)
        guidance = errand.call(lambda: self._guidance(prompt, parameters.guidance))
        start = errand.call(lambda: self._encode(pixels))
        turns = len(grid) * sampler.calls_per_step
        inverting = Trajectory(
            lambda: sampler.invert(LatentPair(start, start), grid, parameters),
            guidance,
            self.model.latent_shape(image.height, image.width),
            turns,
        )
        pair, rung = errand.run(inverting)
        return Inversion(
            image=start.cpu(),
            pair=pair.to("cpu"),
            parameters=parameters,
            prompt=prompt,
            model_name=self.model.name,
            model_revision=self.model.revision,
            schedule=self.model.schedule.describe(grid),
            rung=rung,
            fingerprint=self.model.fingerprint(rung, pair.shape),
        )

    def edit(
        self,
        inversion: Inversion,
        prompt: str,
        *,
        guidance: float | None = None,
        negative_prompt: str = "",
        priority: int = 0,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Image.Image:
        """Generate from ``inversion`` under another ``prompt``.

        ``guidance`` replaces the inversion's own scale; ``negative_prompt`` is what guidance leads
        away from. Raises ``ModelMismatch`` if another model made the inversion.
        """
        errand = _Errand(self.engine, priority, on_progress, should_stop)
        scale = inversion.parameters.guidance if guidance is None else guidance
        check_guidance(scale)
        self._check_model(inversion)
        towards = errand.call(lambda: self._guidance(prompt, scale, negative_prompt))
        pair, _ = errand.run(self._generation(inversion, towards))
        return to_image(errand.call(lambda: self._decode(pair.x)))

    def reconstruct(
        self,
        inversion: Inversion,
        image: Image.Image | None = None,
        *,
        priority: int = 0,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Reconstruction:
        """Generate ``inversion`` back under its own prompt, at its own rung, and compare.

        ``image`` is the source, for the PSNR. Raises ``ModelMismatch`` if another model made the
        inversion.
        """
        errand = _Errand(self.engine, priority, on_progress, should_stop)
        self._check_model(inversion)
        scale = inversion.parameters.guidance
        guidance = errand.call(lambda: self._guidance(inversion.prompt, scale))
        pair, _ = errand.run(self._generation(inversion, guidance), inversion.rung)
        pair = pair.to("cpu")
        pixels = errand.call(lambda: self._decode(pair.x))
        vae_pixels = errand.call(lambda: self._decode(inversion.image))
        return Reconstruction(
            image=to_image(pixels),
            exact=pair.equal(LatentPair(inversion.image, inversion.image)),
            max_error=self._largest_difference(pair.x, inversion.image),
            same_as_vae=to_image(pixels).tobytes() == to_image(vae_pixels).tobytes(),
            psnr=_psnr(image, pixels),
            vae_psnr=_psnr(image, vae_pixels),
        )

    def _sampler(self, parameters: SamplerParameters) -> tuple[Sampler, tuple[Step, ...]]:
        grid = self.model.schedule.grid(parameters.steps, parameters.strength)
        return get_sampler(parameters.sampler), grid

    def _generation(self, inversion: Inversion, guidance: ClassifierFree) -> Trajectory[LatentPair]:
        sampler, grid = self._sampler(inversion.parameters)
        pair = inversion.pair.to(self.model.device)
        return Trajectory(
            lambda: sampler.generate(pair, grid, inversion.parameters),
            guidance,
            pair.shape,
            len(grid) * sampler.calls_per_step,
        )

    def _pixels(self, image: Image.Image) -> Tensor:
        factor = self.model.pixel_factor
        if image.width % factor or image.height % factor:
            raise ParameterError(
                f"the image has {image.width}x{image.height} pixels and the model takes multiples "
                f"of {factor}: load it with a size, say {self.model.default_size}"
            )
        return to_pixels(image)

    def _check_model(self, inversion: Inversion) -> None:
        if inversion.model_revision != self.model.revision:
            raise ModelMismatch(
                f"the inversion was made by {inversion.model_name} at {inversion.model_revision} "
                f"and this is {self.model.name} at {self.model.revision}: load that model, or "
                "invert the image again"
            )

    # Device work, called on the engine's thread.

    def _guidance(self, prompt: str, scale: float, negative_prompt: str = "") -> ClassifierFree:
        embed = self.model.embed
        return ClassifierFree(embed(negative_prompt), embed(prompt), scale)

    def _encode(self, pixels: Tensor) -> Tensor:
        return quantise(self.model.encode(pixels) / self.model.schedule.image_scale)

    def _decode(self, z: Tensor) -> Tensor:
        return self.model.decode(self.model.schedule.image_scale * to_float(z)).cpu()

    def _largest_difference(self, z: Tensor, other: Tensor) -> float:
        return self.model.schedule.image_scale * to_float((z - other).abs().max()).item()


@dataclass(frozen=True)
class _Errand:
    """One caller's work at the engine, and how that caller waits for it."""

    engine: Engine
    priority: int
    on_progress: OnProgress | None
    should_stop: ShouldStop | None

    def call(self, function: Callable[[], T]) -> T:
        """Return what ``function`` returns on the device thread."""
        return self._wait(self.engine.run(function), None)

    def run(self, trajectory: Trajectory[T], rung: int | None = None) -> tuple[T, int]:
        """Return where ``trajectory`` ends and the rung that it ran at."""
        ticket = self.engine.submit(trajectory, priority=self.priority, rung=rung)
        return self._wait(ticket, self.on_progress), ticket.rung

    def _wait(self, ticket: Ticket[T], on_progress: OnProgress | None) -> T:
        interval = POLL_INTERVAL if on_progress or self.should_stop else None
        while not ticket.wait(interval):
            if on_progress:
                on_progress(*ticket.progress)
            if self.should_stop and self.should_stop():
                ticket.cancel()
        if on_progress:
            on_progress(*ticket.progress)
        return ticket.result()


def _psnr(source: Image.Image | None, pixels: Tensor) -> float | None:
    return None if source is None else psnr(to_pixels(source), pixels.clamp(-1, 1))
