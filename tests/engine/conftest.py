"""Shared parts of the engine's tests: the tiny random model, the vectors, and two fake networks."""

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from edict_engine.attention import RowControl
from edict_engine.conditioning import Conditioning
from edict_engine.fixed_point import LatentPair, quantise
from edict_engine.group import Trajectory
from edict_engine.guidance import ClassifierFree
from edict_engine.model import Model, load_model
from edict_engine.parameters import SamplerParameters
from edict_engine.samplers import Coroutine, get_sampler
from edict_engine.schedule import NoiseSchedule

REFERENCE = Path(__file__).parents[1] / "reference"
TINY = REFERENCE / "tiny-sd"
SCHEDULE = NoiseSchedule.from_config(
    {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
)
#: For each direction, the method of a sampler that counts its queries.
TURNS = {"invert": "inversion_turns", "generate": "generation_turns"}


@functools.cache
def tiny_model(dtype: torch.dtype) -> Model:
    return load_model(TINY, dtype=dtype)


@pytest.fixture(
    scope="session",
    params=[torch.float64, torch.float32, torch.bfloat16, torch.float16],
    ids=str,
)
def each_model(request: pytest.FixtureRequest) -> Model:
    return tiny_model(request.param)


@pytest.fixture(scope="session")
def model() -> Model:
    return tiny_model(torch.float32)


class Vectors:
    """The authors' own numbers; see tests/reference/README.md."""

    def __init__(self) -> None:
        self._file = cast("Any", safe_open(REFERENCE / "edict_reference.safetensors", "pt"))
        self.cases: list[dict[str, Any]] = json.loads(self._file.metadata()["cases"])

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self._file.get_tensor(name)
        return tensor


@pytest.fixture(scope="session")
def vectors() -> Vectors:
    return Vectors()


def start_pair(seed: int = 0, shape: tuple[int, int, int] = (4, 8, 8)) -> LatentPair:
    """A pair as an image gives it: both members the same."""
    generator = torch.Generator().manual_seed(seed)
    z = quantise(torch.randn(shape, generator=generator, dtype=torch.float64))
    return LatentPair(z, z)


def drive(
    coroutine: Coroutine[LatentPair], network: Callable[[Tensor, float], Tensor]
) -> LatentPair:
    """Run a sampler with ``network(latent, timestep) -> noise`` in place of the engine."""
    try:
        query = next(coroutine)
        while True:
            query = coroutine.send(network(query.latent, query.timestep))
    except StopIteration as end:
        pair: LatentPair = end.value
        return pair


def fake_noise(latent: Tensor, timestep: float) -> Tensor:
    """A smooth, nonlinear, deterministic stand-in for a network; float64 in and out."""
    return torch.tanh(latent.roll(1, -1) + 0.3 * latent) + 0.001 * timestep


def hostile_noise(latent: Tensor, timestep: float, size: float = 1.0) -> Tensor:
    """A stand-in that is no function of anything but its exact input bits, within ±``size``."""
    bits = latent.contiguous().view(torch.int64) * (2 * int(timestep) + 1)
    return size * (bits % 2001 - 1000).to(torch.float64) / 1000


class FakeModel:
    """A denoiser whose rows never interact; it records the calls that it got.

    The context's first number is added to the noise, so that guidance has something to steer.
    """

    device = torch.device("cpu")
    controls_apart = False

    def __init__(self) -> None:
        self.calls: list[tuple[torch.Size, list[int]]] = []

    def denoise(
        self,
        latents: Tensor,
        timesteps: Tensor,
        contexts: Conditioning,
        controls: Sequence[RowControl] = (),
    ) -> Tensor:
        self.calls.append((latents.shape, timesteps.tolist()))
        rows = zip(latents, timesteps.tolist(), contexts.hidden, strict=True)
        return torch.stack([fake_noise(row, t) + 0.1 * context[0, 0] for row, t, context in rows])


def fake_guidance(scale: float = 3.0, value: float = 1.0) -> ClassifierFree:
    cond = torch.full((2, 3), value, dtype=torch.float64)
    return ClassifierFree(Conditioning(torch.zeros_like(cond)), Conditioning(cond), scale)


def trajectory(
    parameters: SamplerParameters,
    pair: LatentPair | None = None,
    *,
    direction: str = "invert",
    guidance: ClassifierFree | None = None,
) -> Trajectory[LatentPair]:
    """A trajectory of the named sampler; by default over the fake network's contexts."""
    pair = pair or start_pair()
    sampler = get_sampler(parameters.sampler)
    grid = SCHEDULE.grid(parameters.steps, parameters.strength)
    start = functools.partial(getattr(sampler, direction), pair, grid, parameters)
    turns = getattr(sampler, TURNS[direction])(grid)
    return Trajectory(start, guidance or fake_guidance(parameters.guidance), pair.shape, turns)
