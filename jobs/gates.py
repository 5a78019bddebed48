"""Conditions on the figures of results: which of them are exported, and which a gate flags.

A gate is a batch's own: a result with a figure that falls short of one of its conditions is
`flagged` in that batch, which says nothing of the other batches that the job is in.
"""

import math
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from jobs.errors import InvalidInput
from jobs.results import Result

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
_WRITTEN = re.compile(r"\s*(\w+)\s*(>=|<=|>|<|=)\s*(\S+)\s*")
FIGURES = ("exact", "max_error", "psnr", "similarity", "mask_area", "inversion_reused")


@dataclass(frozen=True)
class Condition:
    """One condition on a figure of a result, such as `psnr>=25`. A figure that is not there is not
    as asked."""

    written: str
    name: str
    operator: str
    value: float

    @classmethod
    def parse(cls, written: str, *, field: str = "where") -> "Condition":
        """Read a condition.

        Raises:
            InvalidInput: it is none, or of a figure that results have not.
        """
        found = _WRITTEN.fullmatch(written)
        if found is None or found[1] not in FIGURES:
            raise InvalidInput(
                field,
                f"{written!r} is no condition; write for example psnr>=25 or exact=true "
                f"(figures: {', '.join(FIGURES)})",
            )
        try:
            words = {"true": 1.0, "false": 0.0}
            value = words[found[3]] if found[3] in words else float(found[3])
        except ValueError:
            raise InvalidInput(field, f"{written!r}: {found[3]!r} is no number") from None
        if not math.isfinite(value):
            raise InvalidInput(field, f"{written!r}: give a number that is finite")
        return cls(written, found[1], found[2], value)

    def holds(self, result: Result) -> bool:
        """Whether the result is as asked; not where it lacks the figure."""
        figure = self._figure(result)
        return figure is not None and self._agrees(figure)

    def fails(self, result: Result) -> bool:
        """Whether the result has the figure, and is not as asked."""
        figure = self._figure(result)
        return figure is not None and not self._agrees(figure)

    def _figure(self, result: Result) -> float | None:
        figure = getattr(result, self.name)
        # An equal image has no PSNR: it is above every limit.
        if self.name == "psnr" and figure is None and result.exact:
            return math.inf
        return None if figure is None else float(figure)

    def _agrees(self, figure: float) -> bool:
        return bool(self.compare(figure, self.value))

    def compare(self, figure: Any, value: Any) -> Any:
        """Apply the operator, to numbers or to columns."""
        return _OPERATORS[self.operator](figure, value)


def parse_gate(conditions: Iterable[str]) -> tuple[Condition, ...]:
    """The conditions of a gate.

    Raises:
        InvalidInput: see `Condition.parse`.
    """
    return tuple(Condition.parse(each, field="gate") for each in conditions)


def is_flagged(gate: Iterable[Condition], result: Result) -> bool:
    """Whether a figure falls short of the gate. What was not measured falls short of nothing."""
    return any(each.fails(result) for each in gate)
