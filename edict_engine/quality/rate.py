"""Successes of trials, with how sure one can be of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """So many successes of so many trials."""

    successes: int
    trials: int

    @staticmethod
    def of(outcomes: Sequence[bool]) -> "Rate":
        """Count."""
        return Rate(sum(outcomes), len(outcomes))

    @property
    def share(self) -> float:
        """The estimate."""
        return self.successes / max(self.trials, 1)

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """Give Wilson's interval (95% unless told otherwise); it holds near 0 and 1 too."""
        n = max(self.trials, 1)
        middle = (self.share + z * z / (2 * n)) / (1 + z * z / n)
        spread = z * math.sqrt(self.share * (1 - self.share) / n + z * z / (4 * n * n))
        half = spread / (1 + z * z / n)
        return max(0.0, middle - half), min(1.0, middle + half)

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.share:.0%} ({low:.0%}-{high:.0%}, n={self.trials})"
