"""When a device runs out of memory."""

import torch


def ran_out(error: Exception) -> bool:
    """Tell whether ``error`` says that an allocation failed, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # The CPU's allocator has no class of its own.
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def release() -> None:
    """Give cached blocks back to the device, so that batches of another shape find room."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def free_share(device: torch.device) -> float:
    """Return the share of a GPU's memory that nobody holds; our own cached blocks count as held."""
    free, total = torch.cuda.mem_get_info(device)
    return free / total
