"""Invert, edit, reconstruct: the engine's parts composed into what an application calls.

Every method blocks its thread and may be called from any number of threads at once; the device
work of all of them meets in the engine's batches.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from PIL import Image
from torch import Tensor

from edict_engine.conditioning import Conditioning
from edict_engine.engine import Engine
from edict_engine.errand import Errand, OnProgress, ShouldStop
from edict_engine.errors import ModelMismatch, ParameterError
from edict_engine.fixed_point import LatentPair, quantise, to_float
from edict_engine.found_mask import LEVELS, Contrast, compare, noisy_steps
from edict_engine.group import Trajectory
from edict_engine.guidance import ClassifierFree
from edict_engine.images import to_image, to_pixels
from edict_engine.latent_file import Inversion
from edict_engine.masked import Place, check_mask, paste
from edict_engine.metrics import psnr
from edict_engine.model import Model
from edict_engine.parameters import SamplerParameters, check_guidance
from edict_engine.preview import Glance, Look, Projection, watched
from edict_engine.samplers import AfterStep, Coroutine, Sampler, get_sampler, keep
from edict_engine.schedule import Step
from edict_engine.states import KeptStates, Recorder, States
from edict_engine.transfers import move


@dataclass(frozen=True)
class Edited:
    """An edited image; ``mask`` is what could change (white), at the image's size, or None.

    With ``keep_pixels_of`` the image has that one's own bytes where the mask is black. ``pair`` is
    the edit's latent pair, on the CPU. Outside of a mask it is the integers of the image's own
    latent. ``rung`` is the batch's row count: the same edit at the same one has the same bits.
    """

    image: Image.Image
    mask: Image.Image | None
    pair: LatentPair
    rung: int


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
    waiting thread, about every ``errand.POLL_INTERVAL`` seconds. All methods raise
    ``ParameterError``, ``PromptTooLong``, ``Diverged``, ``OutOfMemory``, ``Cancelled`` and
    ``EngineClosed``.
    """

    def __init__(self, model: Model, engine: Engine) -> None:
        self.model = model
        self.engine = engine
        self._states = KeptStates()
        self._fitting = threading.Lock()
        self._projection: Projection | None = None

    def invert(
        self,
        image: Image.Image,
        prompt: str,
        parameters: SamplerParameters,
        *,
        for_masks: bool = False,
        priority: int = 0,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Inversion:
        """Invert ``image``, which ``prompt`` describes, to noise.

        Its sides must be multiples of ``model.pixel_factor`` (``ParameterError``). ``for_masks``
        saves masked edits of what is returned a generation, for memory (see ``states``).
        """
        errand = Errand(self.engine, priority, on_progress, should_stop)
        sampler, grid = self._sampler(parameters)
        pixels = self._pixels(image)
        guidance = self._guidance(errand, prompt, parameters)
        start, recorder = self._encode(errand, pixels), Recorder()
        met = recorder if for_masks and sampler.exact else keep
        inverting = Trajectory(
            lambda: sampler.invert(LatentPair(start, start), grid, parameters, met),
            guidance,
            self.model.latent_shape(image.height, image.width),
            sampler.inversion_turns(grid),
        )
        pair, rung = errand.run(inverting)
        inversion = Inversion(
            image=move(start, "cpu"),
            pair=pair.to("cpu"),
            parameters=parameters,
            prompt=prompt,
            model_name=self.model.name,
            model_revision=self.model.revision,
            schedule=self.model.schedule.describe(grid),
            rung=rung,
            fingerprint=self.model.fingerprint(rung, pair.shape),
        )
        if recorder.states:
            self._states.keep(inversion, recorder.states)
        return inversion

    def edit(
        self,
        inversion: Inversion,
        prompt: str,
        *,
        guidance: float | None = None,
        negative_prompt: str = "",
        attention_control: bool = False,
        mask: Image.Image | Literal["auto"] | None = None,
        keep_pixels_of: Image.Image | None = None,
        rung: int | None = None,
        look: Look | None = None,
        priority: int = 0,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Edited:
        """Generate from ``inversion`` under another ``prompt``.

        ``guidance`` replaces the inversion's own scale; ``negative_prompt`` is what guidance leads
        away from. ``attention_control`` is Prompt-to-Prompt (see ``attention``). ``mask`` is an
        image of the size that was inverted, white where something may change, or "auto" to find
        that from the prompts (see ``found_mask``). ``keep_pixels_of`` is the image that was
        inverted: around the mask the result is then its own pixels, not only its latent (see
        ``overlay``), and a mask that is found follows them.
        ``rung`` repeats an edit at its own. ``look`` is shown every step as it is taken (see
        ``preview``); it is called on the device thread. Raises ``ModelMismatch`` if another model
        made the inversion.
        """
        errand = Errand(self.engine, priority, on_progress, should_stop)
        scale = inversion.parameters.guidance if guidance is None else guidance
        self._check_edit(inversion, scale, attention_control)
        size = self._size(inversion)
        check_mask(mask, keep_pixels_of, size)
        towards = replace(inversion.parameters, guidance=scale)
        base = inversion.prompt if attention_control else None
        guide = self._guidance(errand, prompt, towards, negative_prompt, base)
        place: Place | None = None
        kept: AfterStep = keep
        if mask is not None:
            place, kept = self._confine(errand, inversion, prompt, mask, keep_pixels_of)
        pair, ran_at = errand.run(self._generation(inversion, guide, kept, look), rung)
        [pixels] = self._decode(errand, pair.x)
        image, shown = to_image(pixels), None
        if place is not None:
            image, shown = place.show(image, keep_pixels_of)
        return Edited(image, shown, pair.to("cpu"), ran_at)

    def _confine(
        self,
        errand: Errand,
        inversion: Inversion,
        prompt: str,
        mask: Image.Image | Literal["auto"],
        source: Image.Image | None,
    ) -> tuple[Place, AfterStep]:
        """Say where an edit belongs, and how it is kept there while it is generated."""
        sampler, grid = self._sampler(inversion.parameters)
        looks = len(LEVELS) if mask == "auto" else 0
        states = self._own_states(errand, inversion, sampler.generation_turns(grid) + looks)
        if isinstance(mask, Image.Image):
            place = Place.given(mask, inversion.pair.shape, source)
        else:
            difference = self._difference(errand, inversion, prompt)
            place = Place.found(difference, inversion.image, source)
        device = self.model.device
        return place, paste(place.inside.to(device), states, inversion.image.to(device))

    def _difference(self, errand: Errand, inversion: Inversion, prompt: str) -> Tensor:
        """Compare ``prompt`` with the inversion's own (see ``found_mask``); float64 (h, w)."""
        schedule, image = self.model.schedule, inversion.image.to(self.model.device)
        steps = noisy_steps(schedule)
        base, edit = self._embed(errand, inversion.parameters, [inversion.prompt, prompt])
        contrast = Contrast(base, edit)
        search = Trajectory(
            lambda: compare(image, schedule.image_scale, steps),
            contrast,
            inversion.pair.shape,
            len(steps),
        )
        # An inversion without guidance may have had one row to a batch.
        return errand.run(search, max(inversion.rung, contrast.rows))[0].cpu()

    def _own_states(self, errand: Errand, inversion: Inversion, later: int) -> States:
        """Find the states of the image's own generation, or generate it; ``later`` turns follow."""
        errand.expect(later)

        def generate() -> States:
            recorder = Recorder()
            guidance = self._guidance(errand, inversion.prompt, inversion.parameters)
            trajectory = self._generation(inversion, guidance, recorder)
            errand.expect(trajectory.turns + later)
            errand.run(trajectory, inversion.rung)
            return recorder.states

        return self._states.of(inversion, generate, errand.turn)

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
        errand = Errand(self.engine, priority, on_progress, should_stop)
        self._check_model(inversion)
        guidance = self._guidance(errand, inversion.prompt, inversion.parameters)
        pair, _ = errand.run(self._generation(inversion, guidance), inversion.rung)
        pair = pair.to("cpu")
        pixels, vae_pixels = self._decode(errand, pair.x, inversion.image)
        return Reconstruction(
            image=to_image(pixels),
            exact=pair.equal(LatentPair(inversion.image, inversion.image)),
            max_error=self._largest_difference(pair.x, inversion.image),
            same_as_vae=to_image(pixels).tobytes() == to_image(vae_pixels).tobytes(),
            psnr=_psnr(image, pixels),
            vae_psnr=_psnr(image, vae_pixels),
        )

    def preview(self, glance: Glance, parameters: SamplerParameters) -> Image.Image:
        """What an edit would become as it stands, one pixel for each cell of its latent.

        For any thread but the device's: the first call waits for a turn of it, to look at the VAE.
        """
        with self._fitting:
            if self._projection is None:
                encode, factor = self.model.encode, self.model.vae_factor
                multiple = self.model.pixel_factor // factor
                fit = partial(Projection.fit, encode, factor, multiple=multiple)
                self._projection = self.engine.run(fit).result()
        _, grid = self._sampler(parameters)
        scaled = self.model.schedule.image_scale * glance.clean(grid)
        return self._projection.picture(scaled.to("cpu"))

    def _sampler(self, parameters: SamplerParameters) -> tuple[Sampler, tuple[Step, ...]]:
        if parameters.sizes is not None and not self.model.takes_sizes:
            raise ParameterError(
                "original_size, crop_top_left and target_size are for SDXL, and this model is not "
                "told sizes: leave them out"
            )
        grid = self.model.schedule.grid(parameters.steps, parameters.strength)
        return get_sampler(parameters.sampler), grid

    def _generation(
        self,
        inversion: Inversion,
        guidance: ClassifierFree,
        after_step: AfterStep = keep,
        look: Look | None = None,
    ) -> Trajectory[LatentPair]:
        sampler, grid = self._sampler(inversion.parameters)
        pair = inversion.pair.to(self.model.device)

        def start() -> Coroutine[LatentPair]:
            running = sampler.generate(pair, grid, inversion.parameters, after_step)
            return running if look is None else watched(running, look)

        return Trajectory(
            start,
            guidance,
            pair.shape,
            sampler.generation_turns(grid),
        )

    def _pixels(self, image: Image.Image) -> Tensor:
        factor, largest = self.model.pixel_factor, self.model.largest_side
        if largest is not None and max(image.size) > largest:
            raise ParameterError(
                f"the image has {image.width}x{image.height} pixels and the model takes at most "
                f"{largest} along a side: load it with a size, say {self.model.default_size}"
            )
        if image.width % factor or image.height % factor:
            raise ParameterError(
                f"the image has {image.width}x{image.height} pixels and the model takes multiples "
                f"of {factor}: load it with a size, say {self.model.default_size}"
            )
        return to_pixels(image)

    def _check_edit(self, inversion: Inversion, guidance: float, attention_control: bool) -> None:
        if attention_control and not self.model.controls_attention:
            raise ParameterError(
                "attention_control is for models with a UNet, and this one has a transformer: "
                "leave it out, or give a mask to keep the rest of the image"
            )
        check_guidance(guidance)
        self._check_model(inversion)

    def _check_model(self, inversion: Inversion) -> None:
        if inversion.model_revision != self.model.revision:
            raise ModelMismatch(
                f"the inversion was made by {inversion.model_name} at {inversion.model_revision} "
                f"and this is {self.model.name} at {self.model.revision}: load that model, or "
                "invert the image again"
            )

    def _guidance(
        self,
        errand: Errand,
        prompt: str,
        parameters: SamplerParameters,
        negative_prompt: str = "",
        base: str | None = None,
    ) -> ClassifierFree:
        """Guide to ``prompt``; with ``base`` by the attention maps of that prompt."""
        told = prompt if base is None else base
        uncond, cond, edit = self._embed(errand, parameters, [negative_prompt, told, prompt])
        train = self.model.schedule.train_timesteps
        low, high = parameters.guidance_interval
        attention = None
        if base is not None:
            attention = errand.call(lambda: self.model.attention_control(base, prompt))
        return ClassifierFree(
            uncond,
            cond,
            parameters.guidance,
            parameters.guidance_rescale,
            (low * train, high * train),
            edit=None if base is None else edit,
            attention=attention,
        )

    def _embed(
        self, errand: Errand, parameters: SamplerParameters, prompts: Sequence[str]
    ) -> list[Conditioning]:
        embedded, sizes = errand.call_rows(self.model.embed_rows, prompts), parameters.sizes
        if sizes is None:
            return embedded
        return [self.model.tell_sizes(prompt, sizes) for prompt in embedded]

    def _size(self, inversion: Inversion) -> tuple[int, int]:
        """Width and height of the image in pixels."""
        _, height, width = inversion.pair.shape
        return width * self.model.vae_factor, height * self.model.vae_factor

    def _encode(self, errand: Errand, pixels: Tensor) -> Tensor:
        [latent] = errand.call_rows(self.model.encode_rows, [pixels])
        return quantise(latent / self.model.schedule.image_scale)

    def _decode(self, errand: Errand, *members: Tensor) -> list[Tensor]:
        latents = [self.model.schedule.image_scale * to_float(z) for z in members]
        return errand.call_rows(self.model.decode_rows, latents)

    def _largest_difference(self, z: Tensor, other: Tensor) -> float:
        return self.model.schedule.image_scale * to_float((z - other).abs().max()).item()


def _psnr(source: Image.Image | None, pixels: Tensor) -> float | None:
    return None if source is None else psnr(to_pixels(source), pixels.clamp(-1, 1))
