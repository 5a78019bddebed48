"""The levels of flow matching, whose step is an addition as it stands.

A rectified flow (Liu et al., 2023, arXiv 2209.03003; Esser et al., 2024, arXiv 2403.03206) lies on
the line between image and noise, and its network predicts the velocity along it:

    x_σ = (1 - σ) · x_0 + σ · n,        v = n - x_0

Euler's step to the next cleaner level is

    x ← x + (σ_next - σ) · v(x, 1000 · σ),

that of ``schedule`` with scale 1 at every level and v in the place of ε. So every sampler runs on
it unchanged, and ``ddim`` is Euler's method and its usual inversion.

Levels lie where the model was trained most, by its ``shift`` s (equation 23 of the second paper):

    σ(u) = s · u / (1 + (s - 1) · u),   u = 0, 1/S, …, (S - 1)/S

================  ====================  ==============================================
paper             here                  meaning
================  ====================  ==============================================
σ, t              Step.noise            share of noise in the latent, 0 to 1
1 - σ             Step.signal           share of the image
v_Θ               Query → noise         the network's answer, the velocity
s                 shift                 how far levels are moved towards the noise
================  ====================  ==============================================

Invariant: ``grid`` depends on its arguments, ``shift`` and ``train_timesteps`` alone. Inversions
are stored for years; a change here makes every stored one decode to something else.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from edict_engine.errors import ModelNotUsable
from edict_engine.schedule import Schedule, Step, is_flow, kept_steps

#: Options of diffusers' scheduler under which levels are others than those above.
UNREAD = ("use_dynamic_shifting", "invert_sigmas", "shift_terminal")


@dataclass(frozen=True)
class FlowSchedule(Schedule):
    """The levels of a flow-matching checkpoint.

    ``shift`` is s above. ``train_timesteps`` is the timestep of pure noise.
    """

    shift: float
    train_timesteps: int = 1000

    @property
    def image_scale(self) -> float:
        """1, as at every level."""
        return 1.0

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "FlowSchedule":
        """Read a diffusers scheduler config; raise ``ModelNotUsable`` where it is not covered.

        The sampler's own choices (Karras' levels, stochastic steps) are ignored on purpose.
        """
        if not is_flow(config):
            raise ModelNotUsable(
                f"the scheduler is a {config.get('_class_name')} and the network predicts "
                "velocities of flow matching: give the folder a FlowMatchEulerDiscreteScheduler"
            )
        if unread := [name for name in UNREAD if config.get(name)]:
            raise ModelNotUsable(
                f"the scheduler sets {unread[0]} to {config[unread[0]]!r}, and the engine reads a "
                "constant shift: choose a Stable Diffusion 3 checkpoint"
            )
        shift, train = config.get("shift", 1.0), config.get("num_train_timesteps", 1000)
        if not (isinstance(shift, int | float) and math.isfinite(shift) and shift > 0):
            raise ModelNotUsable(
                f"the scheduler's shift is {shift!r}: it must be a number above 0; copy the model "
                "again"
            )
        return cls(float(shift), train)

    def grid(self, steps: int, strength: float = 1.0) -> tuple[Step, ...]:
        """Return the steps to take, in generation order (most noise first).

        The full grid is ``u = 0, 1/S, 2/S, …``; ``strength`` keeps its last
        ``int(steps · strength)`` members. As in ``NoiseSchedule.grid`` the last step starts at the
        image's own level, so it adds nothing: samplers over two levels need it.

        Raises ``ParameterError`` if a value is outside its domain or no step would be left.
        """
        levels = [self.level(index / steps) for index in range(kept_steps(steps, strength))]
        pairs = zip(reversed(levels), [*reversed(levels[:-1]), levels[0]], strict=True)
        return tuple(
            Step(
                timestep=self.train_timesteps * here,
                scale_from=1.0,
                scale_to=1.0,
                delta=there - here,
                position=position,
                signal=1 - here,
                noise=here,
            )
            for position, (here, there) in enumerate(pairs)
        )

    def level(self, time: float) -> float:
        """Return σ(u) of ``time`` u in [0, 1]."""
        return self.shift * time / (1 + (self.shift - 1) * time)

    def describe(self, grid: tuple[Step, ...]) -> dict[str, Any]:
        """See ``Schedule``."""
        return {
            "prediction": "flow",
            "shift": self.shift,
            "train_timesteps": self.train_timesteps,
            "timesteps": [step.timestep for step in grid],
            "noise_scale": grid[0].scale_from,
            "image_scale": self.image_scale,
        }

    def to_noise(self, output: Tensor, latents: Tensor, timesteps: Tensor) -> Tensor:  # noqa: ARG002
        """Return the network's velocity as it is: that is what a step adds."""
        return output
