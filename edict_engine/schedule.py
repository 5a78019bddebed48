"""The noise schedule, in the chart where a DDIM step is a pure addition.

Write a latent as ``x_t = a_t · z`` with ``a_t = sqrt(alphas_cumprod[t])``, and let
``s_t = sqrt(1 - a_t²) / a_t``. Dividing the deterministic DDIM step (Song et al., 2021)

    x_next = a_next · (x_t - sqrt(1 - a_t²) · ε) / a_t + sqrt(1 - a_next²) · ε

by ``a_next`` leaves

    z_next = z + (s_next - s_t) · ε.

What is added is exact to undo once it is an integer: see ``fixed_point``. Flow matching adds as it
is (see ``flow_schedule``), so the samplers know one kind of ``Step`` only.

Invariant: ``grid`` depends on its two arguments and on ``alphas_cumprod`` alone. Inversions are
stored for years; a change here makes every stored one decode to something else.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from edict_engine.errors import ModelNotUsable, ParameterError
from edict_engine.parameters import check_steps, check_strength

#: The least a_t. Below it (zero-terminal-SNR schedules reach 0) ``z = x / a_t`` outgrows the
#: fixed point's range; Stable Diffusion's own least value is 0.068.
MIN_SCALE = 1 / 16

#: What a network may predict: the noise ε, or the velocity v = a_t · ε - sqrt(1 - a_t²) · image
#: (Salimans and Ho, 2022), as Stable Diffusion 2.x at 768 pixels does.
PREDICTIONS = ("epsilon", "v_prediction")


@dataclass(frozen=True, slots=True)
class Step:
    """One generation step, from the level of ``timestep`` to the next cleaner one.

    ``scale_from`` and ``scale_to`` are a_t of the two levels, ``delta`` is what the network's
    answer is added with, s_next - s_t (never positive), ``position`` counts from the generation
    side, 0 first. The forward process makes ``z = signal · image + noise · n`` of an image and
    n ~ N(0, I) at the level where the step begins.
    """

    timestep: float
    scale_from: float
    scale_to: float
    delta: float
    position: int
    signal: float
    noise: float


class Schedule(ABC):
    """The noise levels of a checkpoint, and what its network's answers mean at them."""

    @classmethod
    @abstractmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Schedule":
        """Read a diffusers scheduler config; raise ``ModelNotUsable`` where it is not covered."""

    @property
    @abstractmethod
    def image_scale(self) -> float:
        """The scale of an image's latent x, which is ``image_scale · z``."""

    @property
    @abstractmethod
    def train_timesteps(self) -> int:
        """The timestep of pure noise: levels are named by numbers from 0 up to it."""

    @abstractmethod
    def grid(self, steps: int, strength: float = 1.0) -> tuple[Step, ...]:
        """Return the steps to take, in generation order (most noise first).

        Raises ``ParameterError`` if a value is outside its domain or no step would be left.
        """

    @abstractmethod
    def describe(self, grid: tuple[Step, ...]) -> dict[str, Any]:
        """Return, as plain data, all that it takes to read latents made on ``grid``.

        An inverted member is ``x = noise_scale · z``, the image's latent ``image_scale · z``.
        """

    @abstractmethod
    def to_noise(
        self, output: torch.Tensor, latents: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        """Return what a step adds, (R, C, h, w), from what the network said of ``latents`` x_t."""


@dataclass(frozen=True)
class NoiseSchedule(Schedule):
    """``alphas_cumprod`` (float64, one value a training timestep, decreasing) of a checkpoint.

    ``prediction``, one of ``PREDICTIONS``, is what its network returns.
    """

    alphas_cumprod: tuple[float, ...]
    prediction: str = "epsilon"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "NoiseSchedule":
        """Read a diffusers scheduler config; raise ``ModelNotUsable`` where it is not covered.

        The sampler's own choices in the config (class, ``steps_offset``, ``timestep_spacing``,
        ``set_alpha_to_one``) are ignored on purpose: the conventions here are the paper's.
        """
        if is_flow(config):
            raise ModelNotUsable(
                f"the scheduler is a {config['_class_name']}, of flow matching, and the network is "
                "a UNet that predicts noise: restore the scheduler folder of the checkpoint"
            )
        prediction = config.get("prediction_type", "epsilon")
        if prediction not in PREDICTIONS:
            raise ModelNotUsable(
                f"the model predicts {prediction!r} and the engine runs models that predict "
                f"{' or '.join(PREDICTIONS)}: choose a Stable Diffusion 1.x or 2.x checkpoint"
            )
        alphas_cumprod = torch.cumprod(1 - _betas(config), dim=0)
        if config.get("rescale_betas_zero_snr") or alphas_cumprod[-1] < MIN_SCALE**2:
            raise ModelNotUsable(
                "the scheduler ends at (nearly) zero signal, where inversion is undefined: choose "
                "a checkpoint without rescale_betas_zero_snr"
            )
        return cls(tuple(alphas_cumprod.tolist()), prediction)

    @property
    def image_scale(self) -> float:
        """a_t of an image's latent: the level below timestep 0 is that of timestep 0 itself."""
        return math.sqrt(self.alphas_cumprod[0])

    @property
    def train_timesteps(self) -> int:
        """How many timesteps the model was trained with."""
        return len(self.alphas_cumprod)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the values as text that reads back to the same float64."""
        return hashlib.sha256(repr(self.alphas_cumprod).encode()).hexdigest()

    def grid(self, steps: int, strength: float = 1.0) -> tuple[Step, ...]:
        """Return the steps to take, in generation order (most noise first).

        The full grid is ``0, T/S, 2T/S, …`` without offset; ``strength`` keeps its last
        ``int(steps · strength)`` members. The last step starts at timestep 0, whose level is the
        image's own, so it adds nothing and only mixes.

        Raises ``ParameterError`` if a value is outside its domain or no step would be left.
        """
        kept = kept_steps(steps, strength)
        train = self.train_timesteps
        if steps > train:
            raise ParameterError(f"steps is {steps}: the model was trained with {train} timesteps")
        return self._steps([index * (train // steps) for index in reversed(range(kept))])

    def describe(self, grid: tuple[Step, ...]) -> dict[str, Any]:
        """See ``Schedule``."""
        return {
            "prediction": self.prediction,
            "alphas_cumprod_sha256": self.digest,
            "timesteps": [step.timestep for step in grid],
            "noise_scale": grid[0].scale_from,
            "image_scale": self.image_scale,
        }

    def to_noise(
        self, output: torch.Tensor, latents: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        """Return the noise ε (R, C, h, w) in what the network said of ``latents`` x_t.

        ``ε = a_t · v + sqrt(1 - a_t²) · x_t`` for a network that predicts v, in at least float32
        and row by row, so that a row's bits depend on no other. ``timesteps``: whole numbers, (R,).
        """
        if self.prediction == "epsilon":
            return output
        dtype = torch.promote_types(output.dtype, torch.float32)
        table = self._table(latents.device)
        signal = table[timesteps.to(torch.int64)][:, None, None, None]
        scale, noise_scale = signal.sqrt().to(dtype), (1 - signal).sqrt().to(dtype)
        return scale * output.to(dtype) + noise_scale * latents.to(dtype)

    def _table(self, device: torch.device) -> torch.Tensor:
        """Return ``alphas_cumprod`` on ``device``, brought there once: every turn asks."""
        if device not in self._tables:
            values = torch.tensor(self.alphas_cumprod, dtype=torch.float64, device=device)
            self._tables[device] = values
        return self._tables[device]

    @cached_property
    def _tables(self) -> dict[torch.device, torch.Tensor]:
        return {}

    def _steps(self, timesteps: list[int]) -> tuple[Step, ...]:
        levels = [math.sqrt(self.alphas_cumprod[timestep]) for timestep in timesteps]
        below = [*levels[1:], self.image_scale]
        return tuple(
            Step(
                timestep,
                here,
                there,
                noise_to_signal(there) - noise_to_signal(here),
                position,
                signal=1.0,
                noise=noise_to_signal(here),
            )
            for position, (timestep, here, there) in enumerate(
                zip(timesteps, levels, below, strict=True)
            )
        )


def kept_steps(steps: int, strength: float) -> int:
    """Return how many of ``steps`` remain at ``strength``: ``int(steps · strength)``.

    Raises ``ParameterError`` if a value is outside its domain or no step would be left.
    """
    check_steps(steps)
    check_strength(strength)
    # 0.29 * 100 is 28.999999999999996: a product that close to an integer means the integer.
    kept = int(steps * strength + 1e-9)
    if kept == 0:
        raise ParameterError(
            f"strength {strength:g} keeps no step of {steps}: give at least {1 / steps:g}"
        )
    return kept


def is_flow(config: Mapping[str, Any]) -> bool:
    """Tell whether a diffusers scheduler config is one of flow matching."""
    return str(config.get("_class_name", "")).startswith("FlowMatch")


def noise_to_signal(scale: float) -> float:
    """Return s_t = sqrt(1 - a_t²) / a_t, the noise-to-signal ratio at ``scale`` a_t."""
    return math.sqrt(1 - scale * scale) / scale


def _betas(config: Mapping[str, Any]) -> torch.Tensor:
    """Return β_1 … β_T, float64."""
    if config.get("trained_betas") is not None:
        return torch.tensor(config["trained_betas"], dtype=torch.float64)
    kind = config.get("beta_schedule", "linear")
    start, end = config.get("beta_start", 0.0001), config.get("beta_end", 0.02)
    train = config.get("num_train_timesteps", 1000)
    if kind == "linear":
        return torch.linspace(start, end, train, dtype=torch.float64)
    if kind == "scaled_linear":
        return torch.linspace(math.sqrt(start), math.sqrt(end), train, dtype=torch.float64) ** 2
    raise ModelNotUsable(
        f"the scheduler's beta_schedule is {kind!r}: the engine reads 'linear', 'scaled_linear' "
        "and trained_betas"
    )
