"""How large batches may be on this device: found by trying, once, at start.

What the probe lets through may still run out of memory later (larger images, other work on the
device); the loop survives that (see ``lanes``). The probe saves it from finding out under load.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch

from edict_engine import memory
from edict_engine.conditioning import Conditioning
from edict_engine.group import Denoise, LatentShape

#: The share of a GPU's memory that the largest batch leaves: for the VAE, the states of the lanes
#: and a second shape's cached blocks.
SPARE = 0.15

#: Row counts for those who name none. Beyond the last, a GPU of today does no more rows a second.
GPU_RUNGS = (2, 8, 16, 32)
#: Idle rows cost a CPU as much as busy ones, and a larger batch gains it little.
CPU_RUNGS = (2, 8, 16)


class Device(Protocol):
    """Something that runs somewhere."""

    @property
    def device(self) -> torch.device:
        """Where it runs."""


@runtime_checkable
class Probed(Protocol):
    """All that the probe needs of a model."""

    @property
    def denoise(self) -> Denoise:
        """The network; see ``group.Denoise``."""

    @property
    def device(self) -> torch.device:
        """Where it runs."""

    def embed(self, prompt: str, /) -> Conditioning:
        """Return one row's conditioning."""

    @property
    def default_size(self) -> int:
        """Side of the images that it is made for, in pixels."""

    def latent_shape(self, height: int, width: int, /) -> LatentShape:
        """Return (C, H, W) for such an image."""


def find_rungs(model: Device) -> tuple[int, ...]:
    """Return the row counts for images of the model's own size where nobody names any."""
    if model.device.type != "cuda" or not isinstance(model, Probed):
        return CPU_RUNGS
    size = model.default_size
    return probe_rungs(model, model.latent_shape(size, size), GPU_RUNGS)


def probe_rungs(
    model: Probed, latent_shape: LatentShape, candidates: Sequence[int]
) -> tuple[int, ...]:
    """Return those of ``candidates`` (row counts) that fit, for latents of (C, H, W).

    They are tried from the smallest up to the first that does not fit. The smallest is always
    kept: whether a trajectory fits there is for the trajectory to find out. It is tried all the
    same, because the first call of a shape is where it is compiled: no job should wait for that,
    and no other thread should be using the device while a CUDA graph is recorded.
    On a CPU nothing is tried and all are kept, since the system would end the process rather than
    refuse memory.
    """
    ladder = sorted(candidates)
    if model.device.type != "cuda":
        return tuple(ladder)
    fitting: list[int] = []
    for rows in ladder:
        if not _fits(model, latent_shape, rows):
            break
        fitting.append(rows)
    memory.release()
    return tuple(fitting or ladder[:1])


def _fits(model: Probed, latent_shape: LatentShape, rows: int) -> bool:
    """Run one call; tell whether it ended, and left enough."""
    contexts = Conditioning.stack([model.embed("")]).padded(rows)
    latents = torch.zeros(rows, *latent_shape, dtype=torch.float64, device=model.device)
    timesteps = torch.zeros(rows, device=model.device)
    try:
        with torch.inference_mode():
            model.denoise(latents, timesteps, contexts)
    except Exception as error:
        if memory.ran_out(error):
            return False
        raise
    return memory.free_share(model.device) >= SPARE
