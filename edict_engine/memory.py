"""When a device runs out of memory."""

from contextlib import suppress

import torch

#: What errors say that have no class of their own: of the CPU's allocator, and of CUDA's driver and
#: libraries, which take memory past torch's allocator.
SAYINGS = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def ran_out(error: Exception) -> bool:
    """Tell whether ``error`` says that an allocation failed, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(saying in str(error) for saying in SAYINGS)


def release() -> None:
    """Give cached blocks back to the device, so that batches of another shape find room."""
    if torch.cuda.is_available():
        # A broken device says so at its next call, to those who wait for the answer to that.
        with suppress(RuntimeError):
            torch.cuda.empty_cache()


def free_share(device: torch.device) -> float:
    """Return the share of a GPU's memory that nobody holds; our own cached blocks count as held."""
    free, total = torch.cuda.mem_get_info(device)
    return free / total
