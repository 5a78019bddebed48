"""O-BELM against the paper's equation in its own variables, and how exact it is."""

import math
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from edict_engine.fixed_point import LIMIT, to_float
from edict_engine.parameters import SamplerParameters
from edict_engine.samplers import get_sampler
from edict_engine.samplers.obelm import weights
from edict_engine.schedule import NoiseSchedule, Step

from .conftest import SCHEDULE, drive, fake_noise, hostile_noise, start_pair

OBELM = get_sampler("o-belm")
PARAMETERS = SamplerParameters("o-belm")

#: Noise-to-signal ratios that grow by a fifth a timestep: every r_i is at most 1.
GEOMETRIC = NoiseSchedule(tuple(1 / (1 + (0.1 * 1.2**t) ** 2) for t in range(27)))


class Textbook:
    """The paper's update of x_{i-1} from x_i and x_{i+1}, float64, no chart and no integers.

    α and σ are of the paper (x_t = α·x_0 + σ·noise); the first step of either direction is DDIM's,
    and the level of the image is that of the last timestep, 0.
    """

    def __init__(self, schedule: NoiseSchedule, timesteps: list[int]) -> None:
        self.timesteps = timesteps
        self.alpha = [math.sqrt(schedule.alphas_cumprod[timestep]) for timestep in timesteps]
        self.sigma = [math.sqrt(1 - alpha**2) for alpha in self.alpha]

    def coefficients(self, j: int) -> tuple[float, float, float]:
        """Those of x_{i+1}, x_i and ε, for the level with index ``j`` in ``timesteps``."""
        ratio = [sigma / alpha for sigma, alpha in zip(self.sigma, self.alpha, strict=True)]
        above, h = ratio[j - 1] - ratio[j], ratio[j] - ratio[j + 1]
        below = self.alpha[j + 1]
        return (
            h**2 / above**2 * below / self.alpha[j - 1],
            (above**2 - h**2) / above**2 * below / self.alpha[j],
            -h * (h + above) / above * below,
        )

    def ddim(self, x: Tensor, here: int, there: int) -> Tensor:
        noise = fake_noise(x, self.timesteps[here])
        clean = (x - self.sigma[here] * noise) / self.alpha[here]
        return self.alpha[there] * clean + self.sigma[there] * noise

    def generate(self, x: Tensor) -> Tensor:
        x_above, x = x, self.ddim(x, 0, 1)
        for j in range(1, len(self.timesteps) - 1):
            two, one, zero = self.coefficients(j)
            x_above, x = x, two * x_above + one * x + zero * fake_noise(x, self.timesteps[j])
        return x

    def invert(self, x: Tensor) -> tuple[Tensor, Tensor]:
        last = len(self.timesteps) - 1
        x_below, x = x, self.ddim(x, last, last - 1)
        for j in reversed(range(1, last)):
            two, one, zero = self.coefficients(j)
            rest = x_below - one * x - zero * fake_noise(x, self.timesteps[j])
            x_below, x = x, rest / two
        return x, x_below


@pytest.mark.parametrize(("steps", "strength"), [(2, 1.0), (3, 1.0), (7, 0.5), (20, 0.8)])
def test_obelm_agrees_with_the_papers_equation(steps: int, strength: float) -> None:
    grid, start = SCHEDULE.grid(steps, strength), start_pair()
    textbook = Textbook(SCHEDULE, [step.timestep for step in grid])
    clean, noisy = SCHEDULE.image_scale, grid[0].scale_from

    inverted = drive(OBELM.invert(start, grid, PARAMETERS), fake_noise)
    x, x_below = textbook.invert(clean * to_float(start.x))
    torch.testing.assert_close(noisy * to_float(inverted.x), x, atol=1e-5, rtol=0)
    # The other member is the second level, taken back up by the DDIM step from the first.
    back = to_float(inverted.y) + grid[0].delta * fake_noise(x, grid[0].timestep)
    torch.testing.assert_close(grid[0].scale_to * back, x_below, atol=1e-5, rtol=0)

    generated = drive(OBELM.generate(start, grid, PARAMETERS), fake_noise)
    x = textbook.generate(noisy * to_float(start.x))
    torch.testing.assert_close(clean * to_float(generated.x), x, atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=60)
@given(
    kept=st.integers(1, 27),
    size=st.sampled_from([1.0, 10.0, 100.0]),
    seed=st.integers(0, 99),
)
def test_where_no_step_is_longer_than_the_one_before_the_round_trip_is_exact(
    kept: int, size: float, seed: int
) -> None:
    def network(latent: Tensor, timestep: float) -> Tensor:
        # Beyond, the engine stops the trajectory.
        assume(latent.abs().max().item() <= LIMIT)
        return hostile_noise(latent, timestep, size)

    grid, start = GEOMETRIC.grid(27, kept / 27), start_pair(seed)
    assert max(weights(grid)) <= 1
    inverted = drive(OBELM.invert(start, grid, PARAMETERS), network)
    assert drive(OBELM.generate(inverted, grid, PARAMETERS), network).equal(start)


@pytest.mark.parametrize("steps", [10, 50])
def test_on_the_usual_grid_the_round_trip_errs_by_rounding_only_and_says_so(steps: int) -> None:
    grid, start = SCHEDULE.grid(steps), start_pair()
    assert max(weights(grid)) > 1
    inverted = drive(OBELM.invert(start, grid, PARAMETERS), fake_noise)
    back = drive(OBELM.generate(inverted, grid, PARAMETERS), fake_noise)
    assert not back.equal(start)
    assert to_float(back.x - start.x).abs().max() < 1e-6
    assert not OBELM.exact


def test_the_weights_are_the_squared_ratios_of_the_step_sizes() -> None:
    grid = SCHEDULE.grid(50)
    sizes = [step.delta for step in grid]
    found = weights(grid)
    expected = [(size / above) ** 2 for above, size in pairwise(sizes[:-1])]
    assert [float(weight) for weight in found[1:-1]] == pytest.approx(expected, abs=1e-6)
    assert (found[0], found[-1]) == (1, 1)
    assert all(max(weight.as_integer_ratio()) <= 10_000 for weight in found)


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        ([-1.0, 0.0, 0.0], [1, 1, 1]),
        ([0.0, -1.0, 0.0], [1, 1, 1]),
        ([-1.0, 0.0, -2.0, -1.0], [1, 1, 1, Fraction(1, 4)]),
        ([-1.0, -1e6, -1e-6], [1, 10_000, Fraction(1, 10_000)]),
    ],
)
def test_steps_of_no_size_and_of_wild_ratios_leave_everything_finite_and_nearly_reversible(
    deltas: list[float], expected: list[Fraction]
) -> None:
    grid = [Step(100 - n, 0.5, 0.5, delta / 2**20, n, 1.0, 0.0) for n, delta in enumerate(deltas)]
    assert weights(grid) == expected
    start = start_pair()
    inverted = drive(OBELM.invert(start, grid, PARAMETERS), fake_noise)
    back = drive(OBELM.generate(inverted, grid, PARAMETERS), fake_noise)
    assert to_float(back.x - start.x).abs().max() < 1e-4


def test_the_last_step_adds_nothing_to_the_image() -> None:
    # Given that after the last step but one
    grid, asked = SCHEDULE.grid(5), []

    def network(latent: Tensor, timestep: float) -> Tensor:
        asked.append(latent)
        return fake_noise(latent, timestep)

    # Then the image is what the last query, at its level, was about
    image = drive(OBELM.generate(start_pair(), grid, PARAMETERS), network).x
    assert torch.equal(SCHEDULE.image_scale * to_float(image), asked[-1])
