"""SDEdit, also called img2img (Meng et al., 2022, arXiv 2108.01073): the simplest way to edit.

Instead of looking for the noise of an image, it adds some: to the first level t of the grid at
once, by the forward process (variance preserving)

    x_t = a_t · x_0 + sqrt(1 - a_t²) · n,    n ~ N(0, I)

and in the chart of ``schedule``, which divides by a_t and where x_0 = a_0 · z,

    z_t = a_0 · z + s_t · n.

Flow matching's process is ``x_t = (1 - σ) · x_0 + σ · n``. The step of a grid knows its own.

The network is not asked. Generation is DDIM's. What comes back is like the image only as far as the
noise has left it, so the round trip is not exact. There is one latent; both members of the pair
hold it.

n is drawn on the CPU in float64 from the parameters' ``seed``: the same on every device.
"""

from collections.abc import Sequence

import torch

from edict_engine.fixed_point import LatentPair, quantise, to_float
from edict_engine.parameters import SamplerParameters
from edict_engine.samplers import ddim
from edict_engine.samplers.base import AfterStep, Coroutine, Sampler, keep
from edict_engine.schedule import Step


def invert(
    pair: LatentPair,
    grid: Sequence[Step],
    parameters: SamplerParameters,
    _before_step: AfterStep = keep,
) -> Coroutine[LatentPair]:
    """Add noise to the image: there are no steps."""
    yield from ()
    generator = torch.Generator().manual_seed(parameters.seed)
    noise = torch.randn(pair.shape, generator=generator, dtype=torch.float64).to(pair.x.device)
    image = grid[-1].scale_to * to_float(pair.x)
    z = quantise(grid[0].signal * image + grid[0].noise * noise)
    return LatentPair(z, z)


SDEDIT = Sampler(
    "sdedit",
    calls_per_step=1,
    exact=False,
    invert=invert,
    generate=ddim.generate,
    inversion_asks=False,
)
