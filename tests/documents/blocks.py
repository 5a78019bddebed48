"""The code blocks of the documents, and what is said about running them.

A comment in the line before a block says what is special about it; readers do not see it:

    <!-- not run: REASON -->   its commands are only parsed
    <!-- runs beside -->       a server: it is started, and stays until the page is done
    <!-- file: NAME -->        not run but written to that file before the page's first block runs
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
MADE = {"cli.md"}
"""Written by the command line itself, and compared with it in its own test."""
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in MADE),
]
LANGUAGES = {"bash", "json", "python", "text", "yaml"}
"""`text` is what a program prints, or a picture."""

_BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]*?) -->\n)?```(?P<language>[^\n]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One block; `line` is that of its fence, from 1."""

    page: str
    line: int
    language: str
    text: str
    mark: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def excuse(self) -> str:
        """Why it is not run; empty where it is."""
        return self.mark.removeprefix("not run:").strip() if self.mark[:8] == "not run:" else ""

    @property
    def beside(self) -> bool:
        return self.mark == "runs beside"

    @property
    def file(self) -> str:
        return self.mark.removeprefix("file: ") if self.mark.startswith("file: ") else ""


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order."""
    text = page.read_text()
    for found in _BLOCK.finditer(text):
        yield Block(
            page=page.name,
            line=text.count("\n", 0, found.start("language")) + 1,
            language=found["language"],
            text=found["text"],
            mark=found["mark"] or "",
        )


def every_block() -> list[Block]:
    """The blocks of all pages."""
    return [block for page in PAGES for block in blocks_of(page)]
