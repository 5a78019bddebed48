"""Prompts made of a row's columns: `{caption}, in {season}`, once for each season."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from jobs.errors import InvalidInput
from producer.templates import Text

MAX_EDITS = 1_000


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
