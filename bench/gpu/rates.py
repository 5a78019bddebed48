"""What a device computes a second: in plain products of matrices, and inside the UNet."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench.engine.loop import synchronise
from bench.engine.recipe import BASE
from bench.gpu.networks import PROMPT, Blueprint, make_unet
from edict_engine.conditioning import Conditioning
from edict_engine.model import Model

#: Sides of the square matrices whose product is timed; the quickest counts.
GPU_SIDES, CPU_SIDES = (4096, 8192, 16384), (256, 512, 1024)
#: So long a call is repeated, and so often at most.
GPU_SECONDS, CPU_SECONDS, MOST_CALLS = 1.0, 0.2, 1000


@dataclass(frozen=True)
class Product:
    """What a product of two square matrices reaches."""

    side: int
    teraflops: float


@dataclass(frozen=True)
class Rate:
    """Calls of the UNet with ``rows`` rows, one after the other.

    ``peak_megabytes``: what torch's allocator held at most, weights included; None without CUDA.
    """

    rows: int
    compiled: bool
    milliseconds: float
    rows_per_second: float
    teraflops: float
    share_of_matrix_rate: float
    peak_megabytes: float | None


@dataclass(frozen=True)
class Yardstick:
    """What rates are told in: operations of one row, and those that the device does a second."""

    operations_per_row: float
    products: list[Product]

    @property
    def teraflops(self) -> float:
        """The device's measured rate."""
        return max(product.teraflops for product in self.products)

    def rate(self, model: Model, rows: int, *, compiled: bool) -> Rate:
        """Time the network of ``model``."""
        reset_peak(model.device)
        seconds = call_seconds(model, rows)
        reached = rows / seconds * self.operations_per_row / 1e12
        return Rate(
            rows=rows,
            compiled=compiled,
            milliseconds=1000 * seconds,
            rows_per_second=rows / seconds,
            teraflops=reached,
            share_of_matrix_rate=reached / self.teraflops,
            peak_megabytes=peak_megabytes(model.device),
        )


def multiply(device: torch.device, dtype: torch.dtype) -> list[Product]:
    """Time products of square matrices."""
    products = []
    for side in GPU_SIDES if device.type == "cuda" else CPU_SIDES:
        left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        seconds = timed(partial(torch.matmul, left, right), device)
        products.append(Product(side, 2 * side**3 / seconds / 1e12))
    return products


def count_operations(blueprint: Blueprint, size: int) -> int:
    """Return the floating-point operations of one row: two for each multiplication and addition.

    Counted are convolutions and products of matrices, as they are on a device without memory.
    Attention is taken apart into its two products, which is how its flops are usually told.
    """
    side = size // blueprint.vae_factor
    counter = FlopCounterMode(display=False)
    with torch.device("meta"), torch.inference_mode():
        unet = make_unet(blueprint, size)
        prompt = torch.empty(1, PROMPT, blueprint.unet["cross_attention_dim"])
        with counter, sdpa_kernel(SDPBackend.MATH):
            unet(torch.empty(1, 4, side, side), torch.empty(1), prompt)
    return counter.get_total_flops()


def call_seconds(model: Model, rows: int) -> float:
    """Return how long one of many calls of ``rows`` rows takes; compile first if it must be."""
    shape = model.latent_shape(model.default_size, model.default_size)
    latents = torch.randn(rows, *shape, dtype=torch.float64, device=model.device)
    timesteps = torch.linspace(0, 980, rows, device=model.device).round()
    contexts = Conditioning.stack([model.embed(""), model.embed(BASE)]).padded(rows)
    return timed(lambda: model.denoise(latents, timesteps, contexts), model.device)


def timed(call: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of one of many calls that are queued one behind the other."""
    call()  # whatever the first does besides is outside the clock
    once = _seconds(call, 1, device)
    wanted = GPU_SECONDS if device.type == "cuda" else CPU_SECONDS
    calls = max(2, min(MOST_CALLS, int(wanted / once)))
    return _seconds(call, calls, device) / calls


def _seconds(call: Callable[[], object], calls: int, device: torch.device) -> float:
    synchronise(device)
    begun = time.perf_counter()
    for _ in range(calls):
        call()
    synchronise(device)
    return time.perf_counter() - begun


def reset_peak(device: torch.device) -> None:
    """Begin to look for the peak of memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_megabytes(device: torch.device) -> float | None:
    """Return what torch's allocator held at most since; None where there is no such figure."""
    if device.type != "cuda":
        return None
    return torch.cuda.max_memory_allocated(device) / 2**20
