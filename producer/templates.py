"""Text with places for what is known of an image: `{caption}, in winter`.

Only plain names in braces are understood (`{{` is a brace): a template never reaches into values,
and what is filled in is not looked at again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any

from jobs.errors import InvalidInput


@dataclass(frozen=True)
class Text:
    """Text with places for values."""

    written: str
    parts: tuple[tuple[str, str | None], ...]
    """Literal text, each piece followed by the name of a value, or by None at the end."""

    @classmethod
    def parse(cls, field: str, written: str) -> "Text":
        """Take a template apart.

        Raises:
            InvalidInput: its braces do not match, or hold more than a name.
        """
        try:
            found = list(Formatter().parse(written))
        except ValueError as error:
            raise InvalidInput(
                field, f"{written!r}: {error}; write a brace itself as {{{{"
            ) from None
        for _, name, form, conversion in found:
            if name is not None and (form or conversion or not name.isidentifier()):
                raise InvalidInput(
                    field,
                    f"{written!r}: {{{name}}} is no column's name (letters, digits, _); write a "
                    "brace itself as {{",
                )
        return cls(written, tuple((literal, name) for literal, name, _, _ in found))

    @property
    def names(self) -> set[str]:
        """The values that it needs."""
        return {name for _, name in self.parts if name is not None}

    def fill(self, field: str, values: Mapping[str, Any]) -> str:
        """The text for these values.

        Raises:
            InvalidInput: a value is missing or no text.
        """
        return "".join(
            literal + ("" if name is None else self._value(field, name, values))
            for literal, name in self.parts
        )

    def _value(self, field: str, name: str, values: Mapping[str, Any]) -> str:
        value = values.get(name)
        if value is None:
            there = ", ".join(sorted(values)) or "none"
            raise InvalidInput(
                field, f"{self.written!r} needs {name!r}, which the row has not (it has: {there})"
            )
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise InvalidInput(name, f"is {value!r:.80}, no text; give text for {self.written!r}")
        return str(value)
