"""What each kind of job does with its image's noise."""

import io
import math

from PIL import Image

from edict_engine.editor import Editor, Reconstruction
from edict_engine.images import to_pixels
from edict_engine.metrics import psnr
from jobs.keys import result_key, sha256
from jobs.objects import ObjectStore
from jobs.records import Claim
from jobs.results import Output, Result
from jobs.specs import EditSpec, InversionSpec, ReconstructionSpec
from worker.noise import Noise, Watcher
from worker.sources import SourceReader
from worker.stopwatch import Stopwatch


class Performer:
    """Runs one job on the device, uploads what it made, and says what it measured."""

    def __init__(self, objects: ObjectStore, editor: Editor, sources: SourceReader) -> None:
        self._objects = objects
        self._editor = editor
        self._sources = sources

    def perform(self, claim: Claim, noise: Noise, watcher: Watcher) -> Result:
        """Do what the claim's spec asks for.

        Raises:
            JobsError: what the object store answered.
            EngineError: what the engine says of the prompt or the parameters.
        """
        match claim.spec:
            case InversionSpec():
                return self._result(noise, Stopwatch(), {})
            case EditSpec() as spec:
                return self._edit(claim, spec, noise, watcher)
            case ReconstructionSpec():
                return self._reconstruct(claim, noise, watcher)

    def _edit(self, claim: Claim, spec: EditSpec, noise: Noise, watcher: Watcher) -> Result:
        clock = Stopwatch()
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
                priority=watcher.priority,
                on_progress=watcher.progress,
                should_stop=watcher.should_stop,
            )
        outputs = {"image": self._upload(claim, edited.image, clock)}
        if edited.mask is not None:
            outputs["mask"] = self._upload(claim, edited.mask, clock)
        figure = psnr(to_pixels(noise.image), to_pixels(edited.image))
        return self._result(noise, clock, outputs, psnr=figure)

    def _reconstruct(self, claim: Claim, noise: Noise, watcher: Watcher) -> Result:
        clock = Stopwatch()
        with clock.phase("sample"):
            made: Reconstruction = self._editor.reconstruct(
                noise.inversion,
                noise.image,
                priority=watcher.priority,
                on_progress=watcher.progress,
                should_stop=watcher.should_stop,
            )
        uploaded = self._upload(claim, made.image, clock)
        return self._result(
            noise,
            clock,
            {"image": uploaded},
            psnr=made.psnr,
            exact=made.exact,
            max_error=made.max_error,
        )

    def _upload(self, claim: Claim, image: Image.Image, clock: Stopwatch) -> Output:
        with clock.phase("upload"):
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            data = buffer.getvalue()
            key = result_key(claim.job_id, data, "png")
            self._objects.put(key, data, "image/png")
        return Output(key=key, sha256=sha256(data), size=len(data))

    def _result(
        self,
        noise: Noise,
        clock: Stopwatch,
        outputs: dict[str, Output],
        *,
        psnr: float | None = None,
        exact: bool | None = None,
        max_error: float | None = None,
    ) -> Result:
        return Result(
            outputs={"latents": noise.stored} | outputs,
            model_revision=self._editor.model.revision,
            fingerprint=noise.inversion.fingerprint,
            exact=exact,
            max_error=max_error,
            psnr=psnr if psnr is not None and math.isfinite(psnr) else None,
            inversion_reused=noise.reused,
            seconds=noise.seconds | clock.seconds,
        )
