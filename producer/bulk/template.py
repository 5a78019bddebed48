"""Prompts made of a row's columns: `{caption}, in {season}`, once for each season.

Only plain names in braces are understood (`{{` is a brace): a template never reaches into values.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from string import Formatter
from typing import Any

from jobs.errors import InvalidInput

MAX_EDITS = 1_000


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


@dataclass(frozen=True)
class Template:
    """What each image shows, and every edit of it: `to`, under all combinations of `vary`."""

    base: Text | None
    to: tuple[Text, ...]
    vary: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @classmethod
    def parse(
        cls, base: str | None, to: Iterable[str], vary: Mapping[str, Sequence[str]]
    ) -> "Template":
        """Check templates before any row is read.

        Raises:
            InvalidInput: see `Text.parse`; or a variable that nothing uses, or too many edits.
        """
        made = cls(
            None if base is None else Text.parse("from", base),
            tuple(Text.parse("to", each) for each in to),
            tuple((name, tuple(values)) for name, values in vary.items()),
        )
        used: set[str] = set().union(*(each.names for each in made.to))
        for name, values in vary.items():
            if name not in used or not values:
                raise InvalidInput(
                    "vary", f"no --to uses {{{name}}}, or it has no values; correct one of them"
                )
        count = len(made.to)
        for _, values in made.vary:
            count *= len(values)
        if count > MAX_EDITS:
            raise InvalidInput(
                "to", f"makes {count} edits of each image, over the limit of {MAX_EDITS}"
            )
        return made

    @property
    def names(self) -> set[str]:
        """The columns that it needs."""
        base = set() if self.base is None else self.base.names
        given = {name for name, _ in self.vary}
        return base | set().union(*(each.names for each in self.to)) - given

    def edits(self, values: Mapping[str, Any]) -> Iterator[str]:
        """The edit prompts of a row, each once.

        Raises:
            InvalidInput: see `Text.fill`.
        """
        names = [name for name, _ in self.vary]
        prompts = (
            text.fill("to", {**values, **dict(zip(names, chosen, strict=True))})
            for text in self.to
            for chosen in product(*(choices for _, choices in self.vary))
        )
        yield from dict.fromkeys(prompts)


NO_TEMPLATE = Template(None, ())
"""Rows say everything themselves."""
