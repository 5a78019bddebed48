"""Captions: what is said about a picture, and how much of it is left out.

Words must compose: "a pencil sketch of blue lemons" is never seen, each of its words is. So a
caption drops its colour, its noun or its whole subject often enough that the others stand alone.
"""

from dataclasses import dataclass

import numpy as np

from .recipe import Captions
from .vocabulary import ANY_NOUN, SINGULAR, Kind

#: What surrounds the subject, by style; the first is the one that edits ask for.
STYLES: dict[str, tuple[str, ...]] = {
    "photo": ("a photo of {}", "a photo of {}", "a photo of {}", "{}", "a picture of {}"),
    "black and white": ("a black and white photo of {}",),
    "sketch": ("a pencil sketch of {}",),
    "night": ("a photo of {} at night", "a photo of {} at night", "{} at night"),
    "warm": ("a photo of {} in warm light", "a photo of {} in warm light", "{} in warm light"),
}

#: The same without any subject.
BARE: dict[str, str] = {
    "photo": "a photo",
    "black and white": "a black and white photo",
    "sketch": "a pencil sketch",
    "night": "a photo at night",
    "warm": "a photo in warm light",
}


@dataclass(frozen=True)
class Subject:
    """What a picture shows: its kind, and its colour where that is known."""

    kind: Kind
    colour: str | None


def phrase(noun: str, colour: str | None) -> str:
    """Put noun and colour together: "red apples", "a red dress", "an orange cup"."""
    article, bare = _split_article("a " + noun if noun in SINGULAR else noun)
    words = bare if colour is None else f"{colour} {bare}"
    if article in ("a", "an"):
        article = "an" if words[0] in "aeio" else "a"
    return f"{article} {words}" if article else words


def _split_article(noun: str) -> tuple[str, str]:
    first, _, rest = noun.partition(" ")
    return (first, rest) if first in ("a", "an", "the") else ("", noun)


def caption(style: str, subject: Subject, drops: Captions, rng: np.random.Generator) -> str:
    """Draw one caption. The colour of a recoloured picture comes in `subject.colour`."""
    draw = rng.random()
    if draw < drops.no_subject:
        return BARE[style]
    named = _named(subject, draw - drops.no_subject, drops, rng)
    frames = STYLES[style]
    return frames[rng.integers(len(frames))].format(named)


def _named(subject: Subject, draw: float, drops: Captions, rng: np.random.Generator) -> str:
    colour = None if rng.random() < drops.no_colour else subject.colour
    if draw < drops.any_noun:
        return phrase(ANY_NOUN[rng.integers(len(ANY_NOUN))], colour)
    if draw < drops.any_noun + drops.category:
        return phrase(subject.kind.category, colour)
    return phrase(subject.kind.noun, colour)


def instruction(style: str, subject: Subject) -> str:
    """Say the full caption that an edit asks for, nothing left out."""
    return STYLES[style][0].format(phrase(subject.kind.noun, subject.colour))
