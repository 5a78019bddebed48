"""Everything that the engine raises on purpose.

The tree, with the stable code of each class::

    EngineError                 engine_error
    ├── ParameterError          bad_parameter
    ├── PromptTooLong           prompt_too_long
    ├── ImageError              bad_image
    │   ├── UnreadableImage     unreadable_image
    │   └── ImageTooLarge       image_too_large
    ├── ModelError              bad_model
    │   ├── ModelNotFound       unknown_model
    │   │   └── ModelUnreachable    model_unreachable
    │   ├── ModelNotUsable      unusable_model
    │   └── ModelMismatch       model_mismatch
    ├── LatentFileError         bad_latent_file
    ├── Diverged                diverged
    ├── OutOfMemory             out_of_memory
    ├── Cancelled               cancelled
    └── EngineClosed            engine_closed

Codes are for programs and never change. Messages are for people: they say the value, the limit
and the remedy. All but ``ModelUnreachable``, ``OutOfMemory``, ``Cancelled`` and ``EngineClosed``
are permanent: the same call fails again.
"""

from typing import ClassVar


class EngineError(Exception):
    """Base of every error below; ``code`` is its stable name."""

    code: ClassVar[str] = "engine_error"


class ParameterError(EngineError):
    """A parameter lies outside its domain."""

    code = "bad_parameter"


class PromptTooLong(EngineError):
    """A prompt has more tokens than the text encoder takes; it is never cut silently."""

    code = "prompt_too_long"

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(
            f"the prompt has {tokens} tokens, start and end included, and the model takes {limit}: "
            f"shorten it by at least {tokens - limit}"
        )
        self.tokens = tokens
        self.limit = limit


class ImageError(EngineError):
    """An image cannot be used."""

    code = "bad_image"


class UnreadableImage(ImageError):
    """The bytes are not an image of a known format, or are damaged."""

    code = "unreadable_image"


class ImageTooLarge(ImageError):
    """The image has more bytes or pixels than the caller allows."""

    code = "image_too_large"


class ModelError(EngineError):
    """A model cannot be used."""

    code = "bad_model"


class ModelNotFound(ModelError):
    """There is no such folder or hub id, or it cannot be reached."""

    code = "unknown_model"


class ModelUnreachable(ModelNotFound):
    """A hub id could not be fetched: there is none, or the network is away."""

    code = "model_unreachable"


class ModelNotUsable(ModelError):
    """The model is there, but lacks a part or is of a kind that the engine does not run."""

    code = "unusable_model"


class ModelMismatch(ModelError):
    """An inversion was made by another model than the one at hand."""

    code = "model_mismatch"


class LatentFileError(EngineError):
    """The bytes are not an inversion, are damaged, or are of a newer format."""

    code = "bad_latent_file"


class Diverged(EngineError):
    """A trajectory left the range that its integers can hold, or became NaN."""

    code = "diverged"

    def __init__(self, step: int, timestep: float) -> None:
        super().__init__(
            f"the latent left the finite range at step {step} (timestep {timestep:g}): lower the "
            "guidance or the strength, raise mix or gamma, or load the model in bfloat16 or float32"
        )
        self.step = step
        self.timestep = timestep


class OutOfMemory(EngineError):
    """A trajectory does not fit into the device's memory in the smallest batch that it may have."""

    code = "out_of_memory"

    def __init__(self, rows: int, latent_shape: tuple[int, int, int], *, pinned: bool) -> None:
        size = "x".join(map(str, latent_shape))
        why = "as its inversion had" if pinned else "the fewest that it can have"
        remedy = "invert the image again with smaller rungs" if pinned else "take a smaller image"
        super().__init__(
            f"the network ran out of memory on a batch of {rows} rows, {why}, of latents of "
            f"{size}: free the device of other work, or {remedy}"
        )
        self.rows = rows
        self.latent_shape = latent_shape


class Cancelled(EngineError):
    """The caller cancelled the work before it ended."""

    code = "cancelled"


class EngineClosed(EngineError):
    """The engine was closed before the work ended."""

    code = "engine_closed"
