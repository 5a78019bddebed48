"""What was measured of one image, and its mean over a method's images. Plain data, for JSON.

A value is None where it could not be measured: no image, no mask, no weights.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edict_engine.quality.comparison import Outcome, Returned
from edict_engine.quality.measures import Difference
from edict_engine.quality.rate import Rate
from edict_engine.quality.words import HUES


@dataclass(frozen=True)
class Reconstructed:
    """One image and its reconstruction."""

    difference: Difference
    exact: bool
    max_error: float

    @staticmethod
    def of(returned: Returned, difference: Difference) -> "Reconstructed":
        """Keep all of a round trip but the image."""
        return Reconstructed(difference, returned.exact, returned.max_error)


@dataclass(frozen=True)
class ReconstructionRow:
    """A method's means over ``images``; ``max_error`` is the largest, ``exact`` a share.

    ``network_calls`` are those of one image, there and back. ``seconds_per_image`` is the time of
    all images over their number: several are worked on at once.
    """

    method: str
    images: int
    mse: float | None
    psnr: float | None
    ssim: float | None
    lpips: float | None
    exact: float | None
    max_error: float | None
    network_calls: int
    seconds_per_image: float | None

    @staticmethod
    def of(outcome: Outcome[Reconstructed], network_calls: int) -> "ReconstructionRow":
        """Take the means."""
        made = outcome.results
        return ReconstructionRow(
            method=outcome.method.name,
            images=len(made),
            mse=mean(one.difference.mse for one in made),
            psnr=mean(one.difference.psnr for one in made),
            ssim=mean(one.difference.ssim for one in made),
            lpips=mean(one.difference.lpips for one in made),
            exact=mean(float(one.exact) for one in made),
            max_error=max((one.max_error for one in made), default=None),
            network_calls=network_calls,
            seconds_per_image=_per_image(outcome.seconds, made),
        )


@dataclass(frozen=True)
class EditedRecord:
    """One edit. ``verdicts``: for each style or colour asked for, whether it is there."""

    psnr_outside: float | None
    structure_distance: float
    clip: float | None
    verdicts: dict[str, bool]


@dataclass(frozen=True)
class EditRow:
    """A method's means over ``images``, and how many of the words that were asked for are there.

    ``psnr_outside`` is over the images with a mask, ``structure_distance`` over those without.
    ``obeyed`` is over all words, ``colours`` and ``styles`` over each kind.
    """

    method: str
    images: int
    psnr_outside: float | None
    structure_distance: float | None
    clip: float | None
    obeyed: Rate
    colours: Rate
    styles: Rate
    network_calls: int
    seconds_per_image: float | None

    @staticmethod
    def of(outcome: Outcome[EditedRecord], network_calls: int) -> "EditRow":
        """Take the means."""
        made = outcome.results
        words = [verdict for one in made for verdict in one.verdicts.items()]
        bare = (one for one in made if one.psnr_outside is None)
        return EditRow(
            method=outcome.method.name,
            images=len(made),
            psnr_outside=mean(one.psnr_outside for one in made),
            structure_distance=mean(one.structure_distance for one in bare),
            clip=mean(one.clip for one in made),
            obeyed=Rate.of([fulfilled for _, fulfilled in words]),
            colours=Rate.of([fulfilled for word, fulfilled in words if word in HUES]),
            styles=Rate.of([fulfilled for word, fulfilled in words if word not in HUES]),
            network_calls=network_calls,
            seconds_per_image=_per_image(outcome.seconds, made),
        )


def mean(values: Iterable[float | None]) -> float | None:
    """Average those that are there; None if none is."""
    there = [value for value in values if value is not None]
    return math.fsum(there) / len(there) if there else None


def as_json(row: ReconstructionRow | EditRow) -> dict[str, Any]:
    """Return a row as JSON has it; what is infinite, which JSON cannot say, as "inf"."""
    return {name: "inf" if value == math.inf else value for name, value in asdict(row).items()}


def _per_image(seconds: float, made: Sequence[object]) -> float | None:
    return seconds / len(made) if made else None
