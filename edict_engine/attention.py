"""Prompt-to-Prompt attention control (Hertz et al. 2022, arXiv 2208.01626), as data.

A lane under control takes three rows: unconditional, base prompt, edit prompt. In the third, the
maps of all self-attentions are those of the second, and so are the maps of the cross-attentions
for the tokens that both prompts share. `Control` says so of one lane, `RowControl` of rows of a
batch; the attention processor of the model family carries it out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Control:
    """Attention control within the rows of one lane.

    ``source`` and ``target`` are positions among the lane's rows. ``tokens``, int64 (L,), names for
    each token of the target's prompt the token of the source's prompt whose map it gets, or -1
    where it keeps its own.
    """

    source: int
    target: int
    tokens: Tensor

    def at(self, first_row: int) -> "RowControl":
        """Give the control as rows of a batch in which the lane begins at ``first_row``."""
        return RowControl(first_row + self.source, first_row + self.target, self.tokens)


@dataclass(frozen=True, eq=False)
class RowControl:
    """The same between two rows of a batch."""

    source: int
    target: int
    tokens: Tensor


def share_tokens(base: Sequence[int], edit: Sequence[int]) -> Tensor:
    """Tell for each token of ``edit`` which one of ``base`` it is, int64 (L,); -1 where none.

    Both are token ids, padded alike. A run that both have is shared, and so is a run that another
    of equal length took the place of: a word that was swapped keeps its place in the image.
    """
    tokens = torch.full((len(edit),), -1)
    matcher = SequenceMatcher(None, base, edit, autojunk=False)
    for kind, start, stop, edit_start, edit_stop in matcher.get_opcodes():
        swapped = kind == "replace" and stop - start == edit_stop - edit_start
        if kind == "equal" or swapped:
            tokens[edit_start:edit_stop] = torch.arange(start, stop)
    return tokens
