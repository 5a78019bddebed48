"""Specs as their rows hold them, many at once: JSON and digests, with the shared parts made once.

What is written is what `Spec.digest`, `Spec.inversion_digest` and `Spec.model_dump` say (a property
test holds them together). Edits of one image differ in their prompts only, so the text of all else
is kept from one spec to the next: a tenth of the time of asking each spec by itself.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii
from typing import Any

from pydantic import BaseModel

from jobs.specs import EditSpec, Spec

_SHARED = ("version", "source", "model", "base_prompt", "image", "sampler")
_PROMPT = "edit_prompt"
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


@dataclass(frozen=True)
class _Frame:
    """What edits have in common that differ in their prompts only: the text before and after it."""

    of: tuple[object, ...]
    whole: tuple[str, str]
    recipe: tuple[str, str]
    inversion_digest: str


class SpecWriter:
    """Writes specs one after the other; quick where neighbours share an image."""

    def __init__(self) -> None:
        self._shared: _Shared | None = None
        self._frame: _Frame | None = None
        self._known: dict[str, tuple[object, str, str]] = {}
        self._order: dict[type[BaseModel], list[str]] = {}

    def write(self, spec: Spec) -> WrittenSpec:
        """The spec's text and digests."""
        if not isinstance(spec, EditSpec):
            return self._write(spec)
        frame = self._frame_of(spec)
        prompt = f'"{_PROMPT}":{encode_basestring_ascii(spec.edit_prompt)}'
        digest = hashlib.sha256(prompt.join(frame.recipe).encode()).hexdigest()
        return WrittenSpec(prompt.join(frame.whole), digest, frame.inversion_digest)

    def _frame_of(self, spec: EditSpec) -> _Frame:
        of = tuple(getattr(spec, name) for name in self._names(EditSpec) if name != _PROMPT)
        if self._frame is None or self._frame.of != of:
            whole, recipe, shared = self._parts(spec)
            self._frame = _Frame(of, _around(whole), _around(recipe), shared.inversion_digest)
        return self._frame

    def _write(self, spec: Spec) -> WrittenSpec:
        whole, recipe, shared = self._parts(spec)
        digest = hashlib.sha256(_object(recipe).encode()).hexdigest()
        return WrittenSpec(_object(whole), digest, shared.inversion_digest)

    def _parts(self, spec: Spec) -> tuple[list[str], list[str], _Shared]:
        """The fields as text in the order of their names, of the spec and of its recipe."""
        shared = self._shared_of(spec)
        whole, recipe = list[str](), list[str]()
        for name in self._names(type(spec)):
            if (text := shared.whole.get(name)) is not None:
                whole.append(f'"{name}":{text}')
                recipe.append(f'"{name}":{shared.recipe[name]}')
                continue
            plain = _plain(getattr(spec, name))
            if not spec.is_written(name, plain):
                continue
            text = f'"{name}":{_encode(plain)}'
            whole.append(text)
            if (kept := spec.recipe_part(name, plain)) is not None:
                recipe.append(text if kept[0] is plain else f'"{name}":{_encode(kept[0])}')
        return whole, recipe, shared

    def _shared_of(self, spec: Spec) -> _Shared:
        of = tuple(getattr(spec, name) for name in _SHARED)
        if self._shared is None or self._shared.of != of:
            texts = [
                self._texts(spec, name, value) for name, value in zip(_SHARED, of, strict=True)
            ]
            recipe = {name: text for name, (_, text) in zip(_SHARED, texts, strict=True)}
            whole = {name: text for name, (text, _) in zip(_SHARED, texts, strict=True)}
            inversion = _object([f'"{name}":{recipe[name]}' for name in sorted(_SHARED)])
            digest = hashlib.sha256(inversion.encode()).hexdigest()
            self._shared = _Shared(of, whole, recipe, digest)
        return self._shared

    def _texts(self, spec: Spec, name: str, value: Any) -> tuple[str, str]:
        """A field that edits of an image share, in the spec and in its recipe."""
        known = self._known.get(name)
        # Rows of a manifest have one sampler and one model object between them.
        if known is None or known[0] is not value:
            plain = _plain(value)
            kept = spec.recipe_part(name, plain)
            known = (value, _encode(plain), _encode(kept and kept[0]))
            self._known[name] = known
        return known[1:]

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


def _around(parts: list[str]) -> tuple[str, str]:
    """The text of all fields, cut where the prompt is."""
    [at] = [at for at, part in enumerate(parts) if part.startswith(f'"{_PROMPT}":')]
    before = "".join(f"{part}," for part in parts[:at])
    return f"{{{before}", "".join(f",{part}" for part in parts[at + 1 :]) + "}"


def _object(parts: list[str]) -> str:
    return f"{{{','.join(parts)}}}"
