"""What the batching loop itself costs: overhead, heterogeneity, scaling, memory.

The loop runs without its thread here (``Lanes``), so that the network's time can be told apart.

The *ceiling* is a plain generation loop in floats over the same number of rows, all at one
timestep, with nothing to admit, retire or check. It is compared with the loop twice, both with the
network as it is and both with the network compiled (``torch.compile``).
"""

import itertools
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from edict_engine.attention import RowControl
from edict_engine.conditioning import Conditioning
from edict_engine.fixed_point import LatentPair, quantise
from edict_engine.group import Trajectory
from edict_engine.guidance import ClassifierFree
from edict_engine.lanes import Lanes
from edict_engine.model import Model
from edict_engine.parameters import SamplerParameters
from edict_engine.samplers import get_sampler
from edict_engine.ticket import Ticket

LANES = (1, 2, 4, 8, 16, 32)
#: Lanes whose overhead is reported, and lanes of the comparison with the ceiling.
OVERHEAD_LANES, CEILING_LANES = (8, 16), 8
PROMPTS = ("a photo of red tomatoes", "a photo of green apples", "")


@dataclass(frozen=True)
class Load:
    """One run of ``lanes`` trajectories side by side. ``overhead_share`` is time outside the UNet.

    ``megabytes`` is the device's peak on a GPU and the process's peak so far on a CPU.
    """

    lanes: int
    seconds: float
    images_per_second: float
    rows_per_second: float
    overhead_share: float
    megabytes: float


class Clocked:
    """A model's network with a stopwatch, rows counted."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.seconds = 0.0
        self.rows = 0

    def denoise(
        self,
        latents: Tensor,
        timesteps: Tensor,
        contexts: Conditioning,
        controls: Sequence[RowControl] = (),
    ) -> Tensor:
        """Time one call, up to the end of its work on the device."""
        begun = time.perf_counter()
        noise = self._model.denoise(latents, timesteps, contexts, controls)
        synchronise(self._model.device)
        self.seconds += time.perf_counter() - begun
        self.rows += len(latents)
        return noise


def run(model: Model, parameters: SamplerParameters, lanes: int, *, mixed: bool = False) -> Load:
    """Invert ``lanes`` latents together; ``mixed`` ones differ in direction and prompt."""
    network = Clocked(model)
    loop = Lanes(network.denoise, (2 * lanes,))
    # The first call of a shape is outside the clock.
    plain_loop(model, lanes, calls=1)
    with torch.inference_mode():
        for index in range(lanes):
            work = trajectory(model, parameters, index if mixed else 0)
            loop.add(work, Ticket(work.turns), 0, None)
        begun = time.perf_counter()
        while not loop.idle:
            loop.turn()
        seconds = time.perf_counter() - begun
    return Load(
        lanes,
        seconds,
        lanes / seconds,
        network.rows / seconds,
        1 - network.seconds / seconds,
        peak_megabytes(model),
    )


def trajectory(model: Model, parameters: SamplerParameters, kind: int) -> Trajectory[LatentPair]:
    """Make one of six kinds of work of the same length: two directions, three prompts."""
    sampler = get_sampler(parameters.sampler)
    grid = model.schedule.grid(parameters.steps, parameters.strength)
    shape = model.latent_shape(model.default_size, model.default_size)
    z = quantise(torch.randn(shape, dtype=torch.float64)).to(model.device)
    direction = (sampler.invert, sampler.generate)[kind % 2]
    prompt = model.embed(PROMPTS[kind % len(PROMPTS)])
    guidance = ClassifierFree(model.embed(""), prompt, parameters.guidance)
    start = partial(direction, LatentPair(z, z), grid, parameters)
    return Trajectory(start, guidance, shape, len(grid) * sampler.calls_per_step)


def plain_loop(model: Model, lanes: int, calls: int) -> float:
    """Return the rows a second of a plain guided generation loop."""
    shape = model.latent_shape(model.default_size, model.default_size)
    latents = torch.randn(lanes, *shape, device=model.device)
    contexts = Conditioning.stack([model.embed(""), model.embed(PROMPTS[0])])
    contexts = Conditioning(contexts.hidden.repeat_interleave(lanes, 0))
    with torch.inference_mode():
        begun = time.perf_counter()
        for timestep in range(calls, 0, -1):
            timesteps = torch.full((2 * lanes,), timestep, device=model.device)
            noise = model.denoise(torch.cat([latents, latents]), timesteps, contexts)
            uncond, cond = noise.float().chunk(2)
            latents = latents - 0.01 * (uncond + 3.0 * (cond - uncond))
        synchronise(model.device)
        return 2 * lanes * calls / (time.perf_counter() - begun)


@dataclass(frozen=True)
class Ceiling:
    """Rows a second of a plain loop and of mixed lanes, both over one network.

    ``fault`` says why a network was not compiled though it should be.
    """

    compiler: str | None
    plain_rows_per_second: float
    mixed_rows_per_second: float
    fault: str | None

    @property
    def ratio(self) -> float:
        """1 where heterogeneity costs nothing."""
        return self.mixed_rows_per_second / self.plain_rows_per_second


def ceiling(
    model: Model, parameters: SamplerParameters, compiler: str | None, rounds: int = 3
) -> Ceiling:
    """Compare mixed lanes with a plain loop, turn about; the better of each counts."""
    calls = trajectory(model, parameters, 0).turns
    plain_loop(model, CEILING_LANES, 1)
    ours, plain = 0.0, 0.0
    for _ in range(rounds):
        plain = max(plain, plain_loop(model, CEILING_LANES, calls))
        ours = max(ours, run(model, parameters, CEILING_LANES, mixed=True).rows_per_second)
    return Ceiling(compiler, plain, ours, model.not_compiled.get(2 * CEILING_LANES))


def memory_growth(model: Model, trajectories: int, lanes: int = 8) -> float:
    """Run many one-step trajectories through one loop; return the megabytes gained.

    The first tenth, in which caches fill, is not counted.
    """
    parameters = SamplerParameters("ddim", steps=1, strength=1.0, guidance=1.0)
    loop, before = Lanes(model.denoise, (lanes,)), 0.0
    with torch.inference_mode():
        for first in range(0, trajectories, lanes):
            for kind in range(lanes):
                work = trajectory(model, parameters, kind)
                loop.add(work, Ticket(work.turns), 0, None)
            while not loop.idle:
                loop.turn()
            if first <= trajectories // 10:
                before = held_megabytes(model)
    return held_megabytes(model) - before


def scaling(model: Model, parameters: SamplerParameters, most: int = max(LANES)) -> list[Load]:
    """Run one load after the other, smallest first, so that peaks of memory can be read."""
    counts = itertools.takewhile(lambda lanes: lanes <= most, LANES)
    return [run(model, parameters, lanes) for lanes in counts]


def synchronise(device: torch.device) -> None:
    """Wait for a GPU's work; a CPU has none in flight."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def held_megabytes(model: Model) -> float:
    """Return the memory that is in use now."""
    if model.device.type == "cuda":
        return torch.cuda.memory_allocated(model.device) / 2**20
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def peak_megabytes(model: Model) -> float:
    """Return the peak of memory so far."""
    if model.device.type == "cuda":
        return torch.cuda.max_memory_allocated(model.device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
