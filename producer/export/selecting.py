"""Which results go: those that succeeded, and whose figures are as asked."""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobs.errors import InvalidInput
from jobs.results import Result

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
_WRITTEN = re.compile(r"\s*(\w+)\s*(>=|<=|>|<|=)\s*(\S+)\s*")
_NO_FIGURES = {"outputs", "model_revision", "fingerprint", "seconds"}
FIGURES = tuple(name for name in Result.model_fields if name not in _NO_FIGURES)


@dataclass(frozen=True)
class Filter:
    """One condition on a figure of a result, such as `psnr>=25`. A figure that is not there is not
    as asked."""

    written: str
    name: str
    operator: str
    value: float

    @classmethod
    def parse(cls, written: str) -> "Filter":
        """Read a condition.

        Raises:
            InvalidInput: it is none, or of a figure that results have not.
        """
        found = _WRITTEN.fullmatch(written)
        if found is None or found[1] not in FIGURES:
            raise InvalidInput(
                "where",
                f"{written!r} is no condition; write for example psnr>=25 or exact=true "
                f"(figures: {', '.join(FIGURES)})",
            )
        try:
            words = {"true": 1.0, "false": 0.0}
            value = words[found[3]] if found[3] in words else float(found[3])
        except ValueError:
            raise InvalidInput("where", f"{written!r}: {found[3]!r} is no number") from None
        return cls(written, found[1], found[2], value)

    def holds(self, result: Result) -> bool:
        """Whether the result is as asked."""
        figure = getattr(result, self.name)
        # An equal image has no PSNR: it is above every limit.
        if self.name == "psnr" and figure is None and result.exact:
            figure = float("inf")
        return figure is not None and _OPERATORS[self.operator](float(figure), self.value)
