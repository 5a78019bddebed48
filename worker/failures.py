"""What an error means for the job that met it: end it, or try again later.

| class | examples | outcome |
|---|---|---|
| permanent | a damaged image, a prompt too long, a source that changed | failed, at once |
| transient | storage or the database away, or refusing us | tried again, patiently |
| device | out of memory; a broken context | again; broken: alone (`worker.health`) |
| fault | what nobody foresaw | tried again a few times, then failed with the fault's text |

See `retries` for how often and how soon.
"""

from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from edict_engine.errors import EngineError, OutOfMemory
from jobs.errors import JobsError
from worker.retries import POLICIES, ErrorClass, RetryPolicy


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
    kind: ErrorClass

    @property
    def permanent(self) -> bool:
        """Whether trying again is no use."""
        return self.kind is ErrorClass.PERMANENT

    @property
    def device(self) -> bool:
        """Whether the device is broken for this process, and so for every other job in it."""
        return self.code == DEVICE_LOST

    @property
    def policy(self) -> RetryPolicy:
        """How it is tried again; a permanent one is not."""
        return POLICIES[self.kind]


def classify(error: Exception) -> Failure:
    """Say what `error` means for its job."""
    code = getattr(error, "code", None)
    kind = _class_of(error)
    if _out_of_memory(error):
        code = "out_of_memory"
    elif isinstance(error, SQLAlchemyError):  # which has codes of its own, of letters and digits
        code = "database"
    elif kind is ErrorClass.DEVICE:
        code = DEVICE_LOST
    return Failure(
        code=code if isinstance(code, str) else "internal_error",
        message=str(error) or type(error).__name__,
        kind=kind,
    )


def _class_of(error: Exception) -> ErrorClass:
    if _out_of_memory(error) or _broken_device(error):
        return ErrorClass.DEVICE
    if isinstance(error, PERMANENT):
        return ErrorClass.PERMANENT
    if isinstance(error, JobsError | SQLAlchemyError | ConnectionError | TimeoutError):
        return ErrorClass.TRANSIENT
    return ErrorClass.FAULT


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, OutOfMemory) or type(error).__name__ == "OutOfMemoryError"


def _broken_device(error: Exception) -> bool:
    # torch has a class of its own for them since 2.8, and plain RuntimeErrors of its libraries.
    if type(error).__name__ == "AcceleratorError":
        return True
    return isinstance(error, RuntimeError) and str(error).startswith(_BROKEN_DEVICE)
