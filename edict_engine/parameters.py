"""The sampler's parameters and their domains. No torch here: checking them is cheap."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from edict_engine.errors import ParameterError

MAX_STEPS = 1000
MAX_GUIDANCE = 100.0
MIN_MIX = 0.5
MAX_SEED = 2**63 - 1
MAX_SIDE = 2**16
#: ``mix`` and ``gamma`` are whole numbers of ten-thousandths: integers times them are integer
#: arithmetic.
RATIO_DENOMINATOR = 10_000

#: Six numbers of pixels: original height and width, top and left of the crop, target height and
#: width; None where the image's own is meant.
Sizes = tuple[int | None, ...]


@dataclass(frozen=True)
class SamplerParameters:
    """How to invert and to generate; part of what an inversion is.

    ``sampler`` names an entry of :data:`edict_engine.samplers.SAMPLERS`. ``steps`` is the length
    S of the full timestep grid, ``strength`` the share of it that is used (1 = down to pure
    noise), ``guidance`` the classifier-free guidance scale (1 = none), ``mix`` the paper's p
    (1 = no mixing) and ``alternate`` whether the members of its pair take turns in moving first;
    samplers without a pair ignore the last two.

    ``guidance_rescale`` is φ of ``guidance.ClassifierFree`` (0 = off). ``guidance_interval`` is the
    part of the noise levels at which there is guidance, as shares of the training timesteps:
    (0, 1) is everywhere, (0.2, 0.8) leaves out the cleanest and the noisiest fifth.

    ``gamma`` is BDIA's γ and ``seed`` that of SDEdit's noise; other samplers ignore them.

    What SDXL is told of the image (other families refuse it): ``original_size`` (height, width)
    before it was scaled and cropped at ``crop_top_left`` (top, left), and ``target_size``; a size
    that is None is that of the image.

    Raises ``ParameterError``, before any work, for a value outside its domain.
    """

    sampler: str = "edict"
    steps: int = 50
    strength: float = 0.8
    guidance: float = 3.0
    mix: float = 0.93
    guidance_rescale: float = 0.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    gamma: float = 0.96
    seed: int = 0
    original_size: tuple[int, int] | None = None
    crop_top_left: tuple[int, int] = (0, 0)
    target_size: tuple[int, int] | None = None
    alternate: bool = True

    def __post_init__(self) -> None:
        check_steps(self.steps)
        check_strength(self.strength)
        check_guidance(self.guidance)
        check_mix(self.mix)
        check_guidance_rescale(self.guidance_rescale)
        check_guidance_interval(self.guidance_interval)
        check_gamma(self.gamma)
        check_seed(self.seed)
        check_alternate(self.alternate)
        check_pixels("original_size", self.original_size or (1, 1), least=1)
        check_pixels("crop_top_left", self.crop_top_left, least=0)
        check_pixels("target_size", self.target_size or (1, 1), least=1)
        # Read back from a file they are lists.
        for name in ("guidance_interval", "original_size", "crop_top_left", "target_size"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(value))

    @property
    def mix_ratio(self) -> Fraction:
        """``mix`` as the exact fraction that the integers are multiplied by."""
        return _ratio(self.mix)

    @property
    def gamma_ratio(self) -> Fraction:
        """``gamma`` as the exact fraction that the integers are multiplied by."""
        return _ratio(self.gamma)

    @property
    def sizes(self) -> Sizes | None:
        """What SDXL is told of the image, if it is more than the image itself says."""
        own = (None, None)
        sizes = (*(self.original_size or own), *self.crop_top_left, *(self.target_size or own))
        return None if sizes == (None, None, 0, 0, None, None) else sizes


def check_steps(steps: int) -> None:
    """Raise ``ParameterError`` unless ``steps`` is a whole number in [1, 1000]."""
    if not isinstance(steps, int) or isinstance(steps, bool) or not 1 <= steps <= MAX_STEPS:
        raise ParameterError(f"steps is {steps!r}: give a whole number from 1 to {MAX_STEPS}")


def check_strength(strength: float) -> None:
    """Raise ``ParameterError`` unless ``strength`` lies in (0, 1]."""
    if not (_is_number(strength) and 0 < strength <= 1):
        raise ParameterError(f"strength is {strength!r}: give a number above 0 and at most 1")


def check_guidance(guidance: float) -> None:
    """Raise ``ParameterError`` unless ``guidance`` lies in [0, 100]."""
    if not (_is_number(guidance) and 0 <= guidance <= MAX_GUIDANCE):
        raise ParameterError(f"guidance is {guidance!r}: give a number from 0 to {MAX_GUIDANCE:g}")


def check_mix(mix: float) -> None:
    """Raise ``ParameterError`` unless ``mix`` lies in [0.5, 1] and has at most four decimals."""
    if not (_is_number(mix) and MIN_MIX <= mix <= 1):
        raise ParameterError(f"mix is {mix!r}: give a number from {MIN_MIX} to 1")
    _check_decimals("mix", mix)


def check_guidance_rescale(rescale: float) -> None:
    """Raise ``ParameterError`` unless ``rescale`` lies in [0, 1]."""
    if not (_is_number(rescale) and 0 <= rescale <= 1):
        raise ParameterError(f"guidance_rescale is {rescale!r}: give a number from 0 to 1")


def check_guidance_interval(interval: Sequence[float]) -> None:
    """Raise ``ParameterError`` unless ``interval`` is two numbers in [0, 1], in order."""
    if len(interval) == 2 and all(_is_number(bound) for bound in interval):
        low, high = interval
        if 0 <= low < high <= 1:
            return
    raise ParameterError(
        f"guidance_interval is {interval!r}: give two numbers from 0 to 1, the smaller one first"
    )


def check_gamma(gamma: float) -> None:
    """Raise ``ParameterError`` unless ``gamma`` lies in (0, 1] and has at most four decimals."""
    if not (_is_number(gamma) and 0 < gamma <= 1):
        raise ParameterError(f"gamma is {gamma!r}: give a number above 0 and at most 1")
    _check_decimals("gamma", gamma)


def check_seed(seed: int) -> None:
    """Raise ``ParameterError`` unless ``seed`` is a whole number in [0, 2**63 - 1]."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
        raise ParameterError(f"seed is {seed!r}: give a whole number from 0 to {MAX_SEED}")


def check_alternate(alternate: bool) -> None:
    """Raise ``ParameterError`` unless ``alternate`` is True or False."""
    if not isinstance(alternate, bool):
        raise ParameterError(f"alternate is {alternate!r}: give True or False")


def check_pixels(name: str, pixels: Sequence[int], *, least: int) -> None:
    """Raise ``ParameterError`` unless ``pixels`` is two whole numbers in [``least``, 2**16]."""
    whole = all(isinstance(each, int) and not isinstance(each, bool) for each in pixels)
    if not (len(pixels) == 2 and whole and all(least <= each <= MAX_SIDE for each in pixels)):
        raise ParameterError(
            f"{name} is {pixels!r}: give two whole numbers from {least} to {MAX_SIDE}, that along "
            "the height first"
        )


def _check_decimals(name: str, value: float) -> None:
    if round(value, 4) != value:
        nearest = max(round(value, 4), 1 / RATIO_DENOMINATOR)
        raise ParameterError(f"{name} is {value!r}: give at most four decimals, say {nearest!r}")


def _ratio(value: float) -> Fraction:
    return Fraction(round(value * RATIO_DENOMINATOR), RATIO_DENOMINATOR)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
