"""From a spec to the image's noise: found in the bucket, or computed and put there."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial

import structlog
from PIL import Image

from edict_engine.editor import Editor
from edict_engine.errors import LatentFileError
from edict_engine.latent_file import Inversion, load_inversion, save_inversion
from edict_engine.parameters import SamplerParameters
from jobs.errors import JobsError, ObjectNotFound
from jobs.keys import inversion_key, sha256
from jobs.objects import ObjectStore
from jobs.records import Claim, InversionClaim, StoredInversion
from jobs.results import Output
from jobs.specs import SamplerOptions, Spec
from worker.failures import WorkerLost, WrongModel
from worker.sources import SourceReader
from worker.stopwatch import Stopwatch
from worker.turns import InversionTurns

SAFETENSORS = "application/vnd.safetensors"

_log = structlog.get_logger()


class InvertedElsewhere(JobsError):
    """Another shard, here or on another worker, computes this image's inversion right now."""

    code = "inverted_elsewhere"

    def __init__(self, key: str) -> None:
        super().__init__(f"{key} is being computed by another shard")
        self.key = key


class NoiseReplaced(JobsError):
    """The bucket holds another inversion than the one that was computed here."""

    code = "noise_replaced"


@dataclass(frozen=True)
class Watcher:
    """How device work reports to the jobs that wait for it, when it gives up, how urgent it is."""

    progress: Callable[[int, int], None]
    should_stop: Callable[[], bool]
    priority: int = 0


@dataclass(frozen=True)
class Noise:
    """An image at the model's size, and the noise that generates it."""

    image: Image.Image
    inversion: Inversion
    upload: "Future[Output]"
    reused: bool
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def stored(self) -> Output:
        """Where it lies; waits for its upload, beside which edits may begin.

        Raises:
            NoiseReplaced: something else lies there.
            JobsError: what the object store answered.
        """
        return self.upload.result()


class NoiseFinder:
    """Gives every spec its noise; equal questions find the stored answer.

    `turns` sees to it that no two shards compute one inversion; `uploads` runs what need not hold
    up the edits.
    """

    def __init__(
        self,
        objects: ObjectStore,
        editor: Editor,
        sources: SourceReader,
        turns: InversionTurns,
        uploads: Executor,
    ) -> None:
        self._objects = objects
        self._editor = editor
        self._sources = sources
        self._turns = turns
        self._uploads = uploads

    def find(self, claim: Claim, watcher: Watcher, *, for_masks: bool = False) -> Noise:
        """Load the stored inversion of this claim's image, or make and store it.

        `for_masks`: masked edits of it follow (see `Editor.invert`).

        Raises:
            InvertedElsewhere: another shard makes it right now.
            WrongModel, SourceChanged: the spec asks for what is not (or no longer) there.
            WorkerLost: this inversion has cost too many workers.
            JobsError: what the object store answered.
            EngineError: what the engine says of the image, the prompt or the parameters.
        """
        self._check_model(claim.spec)
        clock = Stopwatch()
        key = inversion_key(claim.spec, self._editor.model.revision)
        with clock.phase("fetch"):
            turn_or_found = self._stored(key) or self._turn(key, claim)
        if isinstance(turn_or_found, InversionClaim):
            invert = partial(self._invert, claim.spec, watcher, for_masks=for_masks)
            return self._make(turn_or_found, claim.spec, invert, clock)
        inversion, data = turn_or_found
        with clock.phase("fetch"):
            image = self._sources.image(claim.spec)
        there: Future[Output] = Future()
        there.set_result(_output(key, data))
        return Noise(image, inversion, there, reused=True, seconds=clock.seconds)

    def _turn(self, key: str, claim: Claim) -> InversionClaim | tuple[Inversion, bytes]:
        """The right to make what was not found; or itself, if it was stored since."""
        replacing: int | None = None
        while (turn := self._turns.take(key, claim, replacing=replacing)) is None:
            token = self._turns.stored_token(key)
            if token is None:
                raise InvertedElsewhere(key)
            if found := self._stored(key):
                return found
            replacing = token  # the object is gone or damaged
        if turn.guilty:
            self._turns.abandon(turn)
            raise WorkerLost(
                f"workers fell silent over the inversion {key} again and again, while they ran "
                "nothing else. Look at the workers' logs and at the image, then retry the job"
            )
        return turn

    def _make(
        self,
        turn: InversionClaim,
        spec: Spec,
        invert: Callable[[Image.Image], Inversion],
        clock: Stopwatch,
    ) -> Noise:
        try:
            with clock.phase("fetch"):
                # Whoever had the turn before may have died after it had stored its own.
                found = self._stored(turn.key) if turn.token > 1 else None
                image = self._sources.image(spec)
            with clock.phase("invert"):
                made = found[0] if found else invert(image)
                _log.info("inversion.made", key=turn.key, found=found is not None)
            # In the context of here: whatever it does belongs to this job's log and trace.
            here = copy_context()
            upload = self._uploads.submit(here.run, self._keep, turn, made, clock)
        except BaseException:
            self._turns.abandon(turn)
            raise
        return Noise(image, made, upload, reused=found is not None, seconds=clock.seconds)

    def _invert(
        self, spec: Spec, watcher: Watcher, image: Image.Image, *, for_masks: bool
    ) -> Inversion:
        return self._editor.invert(
            image,
            spec.base_prompt,
            parameters(spec.sampler),
            for_masks=for_masks,
            priority=watcher.priority,
            on_progress=watcher.progress,
            should_stop=watcher.should_stop,
        )

    def _keep(self, turn: InversionClaim, made: Inversion, clock: Stopwatch) -> Output:
        """Store an inversion, and tell those who wait for it."""
        try:
            with clock.phase("upload_latents"):
                output = self._put(turn.key, made)
            numbers = StoredInversion(output.sha256, output.size, made.fingerprint)
            self._turns.stored(turn, numbers)
        except BaseException:
            self._turns.abandon(turn)
            raise
        return output

    def _put(self, key: str, made: Inversion) -> Output:
        """Write the object, unless an intact one is there.

        A worker that lost its turn may be late, and other hardware or another batch shape gives
        other bits: both are inversions, but rows must speak of the one in the bucket.
        """
        data = save_inversion(made)
        while not self._objects.put(key, data, SAFETENSORS):
            if (theirs := self._stored(key)) is None:
                self._objects.delete(key)  # damaged, or gone since
            elif theirs[1] != data:
                raise NoiseReplaced(f"{key} was stored by another worker meanwhile")
            else:
                break
        return _output(key, data)

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


def _output(key: str, data: bytes) -> Output:
    return Output(key=key, sha256=sha256(data), size=len(data))


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
        alternate=options.alternate,
    )
