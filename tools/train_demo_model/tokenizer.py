"""A tokenizer in CLIP's layout whose few hundred words are learnt from the captions."""

import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"


def build(captions: Sequence[str], tokens: int, folder: Path) -> CLIPTokenizer:
    """Learn every word of the captions as a token; other words fall apart into letters."""
    words = Counter(word for text in captions for word in text.lower().split())
    merges = learn_merges(words)
    letters = sorted(ByteLevel.alphabet())
    pieces = [*letters, *(letter + WORD_END for letter in letters), *("".join(m) for m in merges)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    for special in (START, END):
        vocabulary[special] = len(vocabulary)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    return load(folder, tokens)


def load(folder: Path, tokens: int) -> CLIPTokenizer:
    """Open what `build` wrote."""
    return CLIPTokenizer(
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        model_max_length=tokens,
        unk_token=END,
        bos_token=START,
        eos_token=END,
        pad_token=END,
    )


def learn_merges(words: Counter[str]) -> list[tuple[str, str]]:
    """Byte-pair encoding by the book: join the commonest pair until each word is one token."""
    split = {word: (*word[:-1], word[-1] + WORD_END) for word in sorted(words)}
    merges: list[tuple[str, str]] = []
    while pairs := _count_pairs(split, words):
        # Ties go to the alphabet, so that the same captions always give the same tokens.
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        split = {word: _join(pieces, best) for word, pieces in split.items()}
    return merges


def _count_pairs(
    split: dict[str, tuple[str, ...]], words: Counter[str]
) -> Counter[tuple[str, str]]:
    pairs: Counter[tuple[str, str]] = Counter()
    for word, pieces in split.items():
        for pair in pairwise(pieces):
            pairs[pair] += words[word]
    return pairs


def _join(pieces: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    joined: list[str] = []
    for piece in pieces:
        if joined and (joined[-1], piece) == pair:
            joined[-1] += piece
        else:
            joined.append(piece)
    return tuple(joined)


def token_ids(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> Tensor:
    """Turn captions into ids, one padded row each."""
    length = tokenizer.model_max_length
    rows = tokenizer(list(captions), padding="max_length", max_length=length, truncation=True)
    return torch.tensor(rows["input_ids"])
