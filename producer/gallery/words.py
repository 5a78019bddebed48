"""Which words of an edit's prompt are new: they are what the eye should look for."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher


@dataclass(frozen=True)
class Word:
    """One word of a prompt, and whether the base prompt lacks it there."""

    text: str
    new: bool


def changed_words(before: str, after: str) -> Sequence[Word]:
    """The words of `after`, marked by comparison with `before`."""
    old, new = before.split(), after.split()
    marked: list[Word] = []
    for kind, _, _, start, end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        marked += [Word(text, new=kind != "equal") for text in new[start:end]]
    return marked
