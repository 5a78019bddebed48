"""What each kind of job does with its image's noise."""

import io
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from uuid import UUID

from PIL import Image

from edict_engine.editor import Editor, Reconstruction
from edict_engine.errand import OnProgress
from edict_engine.errors import ParameterError
from edict_engine.images import to_pixels
from edict_engine.metrics import psnr, ssim
from edict_engine.preview import Look
from jobs.keys import result_key, sha256
from jobs.objects import ObjectStore
from jobs.records import Claim
from jobs.result_files import MEDIA_TYPES, SUFFIXES, ImageSpec, Recipe, encode, sidecar
from jobs.results import Output, Result
from jobs.specs import EditSpec, InversionSpec, ReconstructionSpec
from worker.noise import Noise, Watcher
from worker.previews import Previewer
from worker.sources import SourceReader
from worker.stopwatch import Stopwatch
from worker.thumbnails import thumbnail


@dataclass(frozen=True)
class Made:
    """What the device gave, and the figures measured on it (see `jobs.results`)."""

    image: Image.Image
    rung: int
    psnr: float | None
    mask: Image.Image | None = None
    exact: bool | None = None
    max_error: float | None = None
    similarity: float | None = None


class Performer:
    """Runs one job on the device, uploads what it made, and says what it measured."""

    def __init__(
        self,
        objects: ObjectStore,
        editor: Editor,
        sources: SourceReader,
        previewer: Previewer | None = None,
    ) -> None:
        self._objects = objects
        self._editor = editor
        self._sources = sources
        self._previewer = previewer

    def perform(self, claim: Claim, noise: Noise, watcher: Watcher) -> Result:
        """Do what the claim's spec asks for.

        Raises:
            JobsError: what the object store answered.
            EngineError: what the engine says of the prompt or the parameters.
        """
        clock = Stopwatch()
        match claim.spec:
            case InversionSpec():
                return self._result(noise)
            case EditSpec() as spec:
                with self._showing(claim, noise) as look:
                    made = self._edit(spec, noise, watcher, clock, look)
            case ReconstructionSpec() as spec:
                made = self._reconstruct(noise, watcher, clock)
        return self._keep(claim.job_id, spec, noise, made, clock)

    def telling(self, claims: Sequence[Claim], doing: str) -> OnProgress:
        """See `Previewer.telling`."""
        if self._previewer is None:
            return lambda _done, _total: None
        return self._previewer.telling(claims, doing)

    def _showing(self, claim: Claim, noise: Noise) -> AbstractContextManager[Look | None]:
        if self._previewer is None:
            return nullcontext()
        return self._previewer.showing(claim, noise.inversion.parameters)

    def _edit(
        self,
        spec: EditSpec,
        noise: Noise,
        watcher: Watcher,
        clock: Stopwatch,
        look: Look | None,
    ) -> Made:
        self._check_rows(spec)
        with clock.phase("fetch"):
            mask = self._sources.mask(spec)
        with clock.phase("sample"):
            edited = self._editor.edit(
                noise.inversion,
                spec.edit_prompt,
                guidance=spec.edit_guidance_scale,
                negative_prompt=spec.negative_prompt,
                attention_control=spec.attention_control,
                mask=mask,
                keep_pixels_of=noise.image if spec.keep_pixels else None,
                priority=watcher.priority,
                rung=spec.rows,
                look=look,
                on_progress=watcher.progress,
                should_stop=watcher.should_stop,
            )
        before, after = to_pixels(noise.image), to_pixels(edited.image)
        return Made(
            edited.image,
            edited.rung,
            psnr(before, after),
            mask=edited.mask,
            similarity=ssim(after, before),
        )

    def _check_rows(self, spec: EditSpec) -> None:
        """A batch takes memory by its rows, whoever asked for them."""
        most = self._editor.engine.rungs[-1]
        if spec.rows is not None and spec.rows > most:
            raise ParameterError(
                f"rows {spec.rows}: a batch of this worker has {most} at most. Leave rows out, or "
                "run the job on a device like the one that made the result"
            )

    def _reconstruct(self, noise: Noise, watcher: Watcher, clock: Stopwatch) -> Made:
        with clock.phase("sample"):
            back: Reconstruction = self._editor.reconstruct(
                noise.inversion,
                noise.image,
                priority=watcher.priority,
                on_progress=watcher.progress,
                should_stop=watcher.should_stop,
            )
        return Made(
            back.image,
            noise.inversion.rung,
            back.psnr,
            exact=back.exact,
            max_error=back.max_error,
            similarity=ssim(to_pixels(back.image), to_pixels(noise.image)),
        )

    def _keep(
        self, job_id: UUID, spec: ImageSpec, noise: Noise, made: Made, clock: Stopwatch
    ) -> Result:
        """Upload what was made. Its file tells the figures, so they come first."""
        finite = made.psnr is not None and math.isfinite(made.psnr)
        shape = noise.inversion.pair.shape
        figures = {
            "generation_fingerprint": self._editor.model.fingerprint(made.rung, shape),
            "exact": made.exact,
            "max_error": made.max_error,
            "psnr": made.psnr if finite else None,
            "similarity": made.similarity,
            "mask_area": None if made.mask is None else _area(made.mask),
        }
        result = self._result(noise).model_copy(update=figures)
        recipe = Recipe.of(spec, result, rows=made.rung)
        with clock.phase("encode"):
            data, small = encode(made.image, recipe, spec.output), thumbnail(made.image)
        with clock.phase("upload"):
            outputs = result.outputs | self._upload(job_id, made, recipe, data, small)
        seconds = noise.seconds | clock.seconds
        return result.model_copy(update={"outputs": outputs, "seconds": seconds})

    def _upload(
        self, job_id: UUID, made: Made, recipe: Recipe, data: bytes, small: bytes
    ) -> dict[str, Output]:
        kind = recipe.spec.output.format
        image = self._put(result_key(job_id, data, SUFFIXES[kind]), data, MEDIA_TYPES[kind])
        # Under the image's own name: one image has one recipe.
        beside = sidecar(recipe, made.image, image)
        outputs = {
            "image": image,
            "sidecar": self._put(result_key(job_id, data, "json"), beside, "application/json"),
            "thumbnail": self._put(result_key(job_id, small, "webp"), small, "image/webp"),
        }
        if made.mask is not None:
            buffer = io.BytesIO()
            made.mask.save(buffer, "PNG")
            mask = buffer.getvalue()
            outputs["mask"] = self._put(result_key(job_id, mask, "png"), mask, "image/png")
        return outputs

    def _put(self, key: str, data: bytes, media_type: str) -> Output:
        self._objects.put(key, data, media_type)
        return Output(key=key, sha256=sha256(data), size=len(data))

    def _result(self, noise: Noise) -> Result:
        return Result(
            outputs={"latents": noise.stored},
            model_revision=self._editor.model.revision,
            fingerprint=noise.inversion.fingerprint,
            inversion_reused=noise.reused,
            seconds=noise.seconds,
        )


def _area(mask: Image.Image) -> float:
    """The white share of a mask, which is black and white."""
    return mask.convert("L").histogram()[255] / (mask.width * mask.height)
