"""How far apart two images are. Pixels are float32 (3, H, W) in [-1, 1].

MSE is the paper's measure, on [-1, 1]; PSNR follows from it with a peak of 2. SSIM (Wang et al.,
2004) is ours; LPIPS (Zhang et al., 2018) is torchmetrics', and needs weights that are looked for
on this machine only: nothing is ever downloaded.
"""

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from edict_engine import metrics
from edict_engine.images import to_pixels
from edict_engine.quality import words

#: The file that torchvision keeps AlexNet's weights in, inside torch hub's cache.
LPIPS_WEIGHTS = "alexnet-owt-7be5be79.pth"
PEAK = 2.0

Lpips = Callable[[Tensor, Tensor], float]


@dataclass(frozen=True)
class Difference:
    """How one image differs from another; ``psnr`` is infinite for equal ones.

    ``lpips`` is None where its weights are absent.
    """

    mse: float
    psnr: float
    ssim: float
    lpips: float | None


def compare(made: Image.Image, source: Image.Image, lpips: Lpips | None = None) -> Difference:
    """Compare two RGB images of one size; raise ``ValueError`` if the sizes differ."""
    one, other = to_pixels(made), to_pixels(source)
    return Difference(
        mse=metrics.mse(one, other),
        psnr=metrics.psnr(one, other, PEAK),
        ssim=metrics.ssim(one, other, PEAK),
        lpips=None if lpips is None else lpips(one, other),
    )


def psnr_outside(made: Image.Image, source: Image.Image, mask: Image.Image) -> float | None:
    """PSNR of the pixels where ``mask`` is black; None if there is none, ``inf`` if equal.

    All are of one size; what is brighter than half grey is inside.
    """
    outside = torch.from_numpy(np.array(mask.convert("L")) < 128)
    if not outside.any():
        return None
    return metrics.psnr(to_pixels(made)[:, outside], to_pixels(source)[:, outside], PEAK)


def structure_distance(made: Image.Image, source: Image.Image) -> float:
    """Distance of two images' structure: 0 for the same, about 1 for unrelated, at most 2.

    It is 1 - r, where r is Pearson's correlation, over all pixels, of the magnitudes of the
    gradient of luma. A change of colour or of light leaves it small; lines that move do not.
    """
    one, other = (words.to_picture(np.asarray(image)) for image in (made, source))
    return 1 - words.layout_kept(one, other)


def why_no_lpips() -> str | None:
    """Say why LPIPS cannot be measured here; None if it can."""
    if find_spec("torchvision") is None:
        return "torchvision is not installed"
    path = Path(torch.hub.get_dir()) / "checkpoints" / LPIPS_WEIGHTS
    return None if path.is_file() else f"there are no weights at {path}"


def find_lpips() -> Lpips | None:
    """Return LPIPS with AlexNet's weights; None if ``why_no_lpips``."""
    return _load_lpips() if why_no_lpips() is None else None


@functools.cache
def _load_lpips() -> Lpips:
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    metric = LearnedPerceptualImagePatchSimilarity(net_type="alex")
    # It adds up what it has seen, so threads must take turns.
    lock = threading.Lock()

    @torch.inference_mode()
    def lpips(one: Tensor, other: Tensor) -> float:
        with lock:
            value: Tensor = metric(one[None], other[None])
            metric.reset()
        return value.item()

    return lpips
