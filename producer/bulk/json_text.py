"""JSON as manifests may hold it: where Python's parser gives up or guesses, here is a limit.

Python would let the last of two values of a name win, and answer what is too deep or too long for
it with words about its own settings.
"""

import json
import re
from collections import Counter
from typing import Any

MAX_LEVELS = 100
MAX_DIGITS = 4_300
"""Of a whole number: Python's own limit, unless somebody changed that."""

_STRING = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
"""One that does not end goes to the end: tried again from each quote in it, it would take hours."""


class JsonRefused(ValueError):
    """It may be JSON, but not such as a manifest may hold; says what, the limit and the remedy."""


def parse_json(text: str) -> Any:
    """The value that the text stands for.

    Raises:
        JsonRefused: it is nested too deeply, names something twice, or holds a number of no use.
        json.JSONDecodeError: it is no JSON.
    """
    # Few texts have so many brackets at all; in those, brackets in strings do not count.
    if text.count("[") + text.count("{") > MAX_LEVELS and (levels := _levels(text)) > MAX_LEVELS:
        raise JsonRefused(
            f"is nested {levels} levels deep, over the limit of {MAX_LEVELS}; "
            "no field takes more than a list of edits"
        )
    return json.loads(
        text, object_pairs_hook=_once, parse_int=_whole_number, parse_constant=_no_number
    )


def _levels(text: str) -> int:
    deepest = level = 0
    for mark in re.findall(r"[\[\]{}]", _STRING.sub("", text)):
        level += 1 if mark in "[{" else -1
        deepest = max(deepest, level)
    return deepest


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        [(name, times)] = Counter(name for name, _ in pairs).most_common(1)
        raise JsonRefused(f"names {name!r:.80} {times} times; keep one of them")
    return values


def _whole_number(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise JsonRefused(
            f"holds a number of {len(digits)} digits, over the limit of {MAX_DIGITS}; "
            "write it as text, or leave it out"
        )
    return int(digits)


def _no_number(name: str) -> Any:
    raise JsonRefused(f"holds {name}, which is no value of JSON; leave the field out")
