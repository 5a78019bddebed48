"""Specs as their rows hold them, many at once: JSON and digests, with the shared parts made once.

What is written is what `Spec.digest`, `Spec.inversion_digest` and `Spec.model_dump` say (a property
test holds them together). Edits of one image differ in their prompts only, so the text of all else
is kept from one spec to the next: a fifth of the time of asking each spec by itself.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii
from typing import Any

from pydantic import BaseModel

from jobs.specs import Spec

_SHARED = ("version", "source", "model", "base_prompt", "image", "sampler")
_encode_any = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode
_CONSTANTS = {None: "null", True: "true", False: "false"}


@dataclass(frozen=True)
class WrittenSpec:
    """A spec as text, and what it is known by."""

    json: str
    digest: str
    inversion_digest: str


@dataclass(frozen=True)
class _Shared:
    """What edits of one image have in common: fields by name, as JSON."""

    of: tuple[object, ...]
    whole: Mapping[str, str]
    recipe: Mapping[str, str]
    inversion_digest: str


class SpecWriter:
    """Writes specs one after the other; quick where neighbours share an image."""

    def __init__(self) -> None:
        self._shared: _Shared | None = None
        self._order: dict[type[BaseModel], list[str]] = {}

    def write(self, spec: Spec) -> WrittenSpec:
        """The spec's text and digests."""
        shared = self._shared_of(spec)
        whole, recipe = [], []
        for name in self._names(type(spec)):
            if (text := shared.whole.get(name)) is not None:
                whole.append(f'"{name}":{text}')
                recipe.append(f'"{name}":{shared.recipe[name]}')
                continue
            plain = _plain(getattr(spec, name))
            text = f'"{name}":{_encode(plain)}'
            whole.append(text)
            if (kept := spec.recipe_part(name, plain)) is not None:
                recipe.append(text if kept[0] is plain else f'"{name}":{_encode(kept[0])}')
        digest = hashlib.sha256(_object(recipe).encode()).hexdigest()
        return WrittenSpec(_object(whole), digest, shared.inversion_digest)

    def _shared_of(self, spec: Spec) -> _Shared:
        of = tuple(getattr(spec, name) for name in _SHARED)
        if self._shared is None or self._shared.of != of:
            recipe = spec.inversion_recipe()
            self._shared = _Shared(
                of,
                {name: _encode(_plain(value)) for name, value in zip(_SHARED, of, strict=True)},
                {name: _encode(value) for name, value in recipe.items()},
                hashlib.sha256(_encode(recipe).encode()).hexdigest(),
            )
        return self._shared

    def _names(self, kind: type[BaseModel]) -> list[str]:
        if kind not in self._order:
            self._order[kind] = sorted(kind.model_fields)
        return self._order[kind]


def _encode(value: Any) -> str:
    """JSON, as `jobs.specs.digest_of` writes it; text and constants without the detour."""
    if type(value) is str:
        return encode_basestring_ascii(value)
    if value is None or type(value) is bool:
        return _CONSTANTS[value]
    return _encode_any(value)


def _plain(value: Any) -> Any:
    # Asked first, because pydantic's own isinstance is slow.
    if value is None or type(value) in (str, bool, int, float):
        return value
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _object(parts: list[str]) -> str:
    return f"{{{','.join(parts)}}}"
