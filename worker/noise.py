"""From a spec to the image's noise: found in the bucket, or computed and put there."""

from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from PIL import Image

from edict_engine.editor import Editor
from edict_engine.errors import LatentFileError
from edict_engine.latent_file import Inversion, load_inversion, save_inversion
from edict_engine.parameters import SamplerParameters
from jobs.errors import ObjectNotFound
from jobs.keys import inversion_key, sha256
from jobs.objects import ObjectStore
from jobs.results import Output
from jobs.specs import SamplerOptions, Spec
from worker.failures import WrongModel
from worker.sources import SourceReader
from worker.stopwatch import Stopwatch

SAFETENSORS = "application/vnd.safetensors"

_log = structlog.get_logger()


@dataclass(frozen=True)
class Watcher:
    """How long device work reports to the jobs that wait for it, and when it gives up."""

    progress: Callable[[int, int], None]
    should_stop: Callable[[], bool]


@dataclass(frozen=True)
class Noise:
    """An image at the model's size, and the noise that generates it."""

    image: Image.Image
    inversion: Inversion
    stored: Output
    reused: bool
    seconds: dict[str, float] = field(default_factory=dict)


class NoiseFinder:
    """Gives every spec its noise; equal questions find the stored answer."""

    def __init__(self, objects: ObjectStore, editor: Editor, sources: SourceReader) -> None:
        self._objects = objects
        self._editor = editor
        self._sources = sources

    def find(self, spec: Spec, watcher: Watcher) -> Noise:
        """Load the stored inversion of this spec's image, or make and store it.

        Raises:
            WrongModel, SourceChanged: the spec asks for what is not (or no longer) there.
            JobsError: what the object store answered.
            EngineError: what the engine says of the image, the prompt or the parameters.
        """
        self._check_model(spec)
        clock = Stopwatch()
        with clock.phase("fetch"):
            image = self._sources.image(spec)
            key = inversion_key(spec, self._editor.model.revision)
            found = self._stored(key)
        reused = found is not None
        if found is None:
            with clock.phase("invert"):
                made = self._editor.invert(
                    image,
                    spec.base_prompt,
                    parameters(spec.sampler),
                    on_progress=watcher.progress,
                    should_stop=watcher.should_stop,
                )
            with clock.phase("upload_latents"):
                found = self._keep(key, made)
        inversion, data = found
        stored = Output(key=key, sha256=sha256(data), size=len(data))
        return Noise(image, inversion, stored, reused=reused, seconds=clock.seconds)

    def _keep(self, key: str, made: Inversion) -> tuple[Inversion, bytes]:
        """Store an inversion; where another worker was first, its one is everybody's.

        Two workers may invert the same image at once, and other hardware or another batch shape
        gives other bits: both are inversions, but rows must speak of the one in the bucket.
        """
        data = save_inversion(made)
        while not self._objects.put(key, data, SAFETENSORS):
            if (theirs := self._stored(key)) is not None:
                return theirs
            self._objects.delete(key)  # damaged, or gone since
        return made, data

    def _check_model(self, spec: Spec) -> None:
        model, wanted = self._editor.model, spec.model
        if wanted.name != model.name or wanted.revision not in (None, model.revision):
            raise WrongModel(
                f"the job asks for {wanted.name!r} at revision {wanted.revision or 'any'}, and "
                f"this worker serves {model.name!r} at {model.revision}; start a worker for it, "
                "or submit the job without a revision"
            )

    def _stored(self, key: str) -> tuple[Inversion, bytes] | None:
        try:
            data = self._objects.get(key)
            return load_inversion(data), data
        except ObjectNotFound:
            return None
        except LatentFileError as error:
            _log.warning("inversion.damaged", key=key, reason=str(error))
            return None


def parameters(options: SamplerOptions) -> SamplerParameters:
    """The engine's form of a spec's sampler options."""
    return SamplerParameters(
        sampler=options.name,
        steps=options.steps,
        strength=options.strength,
        guidance=options.guidance_scale,
        mix=options.mix,
        gamma=options.gamma,
        seed=options.seed,
        guidance_rescale=options.guidance_rescale,
        guidance_interval=options.guidance_interval,
        original_size=options.original_size,
        crop_top_left=options.crop_top_left,
        target_size=options.target_size,
    )
