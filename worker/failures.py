"""What an error means for the job that met it: end it, or try again later.

| class | examples | outcome |
|---|---|---|
| permanent | a damaged image, a prompt too long, a source that changed | failed, at once |
| transient | storage away or refusing us, a device out of memory, our faults | tried again, later |
| device | a lost CUDA context | tried again alone, by a new process (see `worker.health`) |

A fault that nobody foresaw counts as transient: it is tried again a few times, then the job has
failed with the fault's text.
"""

import random
from dataclasses import dataclass

from edict_engine.errors import EngineError, OutOfMemory
from jobs.errors import JobsError

BACKOFF_SECONDS = 2.0
BACKOFF_LIMIT_SECONDS = 300.0


class SourceChanged(JobsError):
    """The bytes at the source's address are not those that were submitted."""

    code = "source_changed"


class SourceRefused(JobsError):
    """The source is not there, too large, or may not be read."""

    code = "source_refused"


class WrongModel(JobsError):
    """The job asks for another model, or another revision of it, than this worker serves."""

    code = "wrong_model"


class WorkerLost(JobsError):
    """The inversion that the job needs has cost too many workers."""

    code = "worker_lost"


PERMANENT = (EngineError, SourceChanged, SourceRefused, WrongModel, WorkerLost)

DEVICE_LOST = "device_lost"
_BROKEN_DEVICE = ("CUDA error", "CUDA driver error", "cuDNN error", "CUBLAS_STATUS", "NCCL error")
"""How errors begin that no later call on the device survives."""


@dataclass(frozen=True)
class Failure:
    """An error as the job's row will show it."""

    code: str
    message: str
    permanent: bool
    device: bool = False
    """Whether the device is broken for this process, and so for every other job in it."""


def classify(error: Exception) -> Failure:
    """Say what `error` means for its job."""
    code = getattr(error, "code", None)
    if type(error).__name__ == "OutOfMemoryError":
        code = "out_of_memory"
    device = _is_of_the_device(error)
    if device:
        code = DEVICE_LOST
    return Failure(
        code=code if isinstance(code, str) else "internal_error",
        message=str(error) or type(error).__name__,
        permanent=isinstance(error, PERMANENT) and not isinstance(error, OutOfMemory),
        device=device,
    )


def _is_of_the_device(error: Exception) -> bool:
    # torch has a class of its own for them since 2.8, and plain RuntimeErrors of its libraries.
    if type(error).__name__ == "AcceleratorError":
        return True
    return isinstance(error, RuntimeError) and str(error).startswith(_BROKEN_DEVICE)


def backoff(attempt: int) -> float:
    """Seconds until the next try: doubled with each, and spread so that tries do not meet."""
    delay: float = min(BACKOFF_SECONDS * 2 ** (attempt - 1), BACKOFF_LIMIT_SECONDS)
    return delay * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
