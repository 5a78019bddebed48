"""Tables of figures."""

from collections.abc import Sequence

from rich.table import Table


def table(title: str, headings: Sequence[str], lines: Sequence[Sequence[object]]) -> Table:
    """Lay out numbers with three significant digits."""
    made = Table(*headings, title=title)
    for line in lines:
        made.add_row(*(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in line))
    return made
