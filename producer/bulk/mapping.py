"""From columns to wishes: one row is one image with one or many edits.

What a row does not say comes from the plan, which holds for the whole manifest.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property, lru_cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from jobs.errors import InvalidInput
from jobs.specs import (
    EditSpec,
    ImageOptions,
    ModelRef,
    SamplerOptions,
    Source,
    Spec,
    invalid_input,
    parse_spec,
)
from producer.bulk.json_text import JsonRefused, parse_json
from producer.bulk.places import Root
from producer.bulk.rows import RawRow
from producer.bulk.template import MAX_EDITS, NO_TEMPLATE, Template

SAMPLER = (
    "steps", "strength", "guidance_scale", "mix", "gamma", "seed", "guidance_rescale",
)  # fmt: skip
IMAGE = ("size", "fit")
EDIT = (
    "edit_prompt", "negative_prompt", "edit_guidance_scale", "attention_control", "keep_pixels",
    "mask",
)  # fmt: skip
FIELDS = (
    "image", "sha256", "kind", "base_prompt", "edits", *EDIT, "model", "sampler", *SAMPLER, *IMAGE,
)  # fmt: skip
"""What columns may be called, unless they are mapped."""

_TEXTS = (
    "image",
    "sha256",
    "kind",
    "sampler",
    "base_prompt",
    "edit_prompt",
    "negative_prompt",
    "mask",
    "model",
)
_HALF_A_PAIR = re.compile(r"[\ud800-\udfff]")
_USUAL: dict[str, Any] = {
    "sampler": SamplerOptions.model_fields["name"].default,
    **{name: SamplerOptions.model_fields[name].default for name in SAMPLER},
    **{name: ImageOptions.model_fields[name].default for name in IMAGE},
}
"""What a job has where neither its row nor the plan says anything."""

_M = TypeVar("_M", bound=BaseModel)


@dataclass(frozen=True)
class Plan:
    """What holds for all rows of a manifest."""

    model: Callable[[str | None], ModelRef]
    """Finds a model of the catalogue by its name; None is the default."""
    template: Template = NO_TEMPLATE
    columns: Mapping[str, str] = field(default_factory=dict)
    """Fields whose column is called otherwise: field to column."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Values of fields where a row gives none."""

    def __post_init__(self) -> None:
        for name in [*self.columns, *self.defaults]:
            if name not in FIELDS:
                raise InvalidInput(
                    "map", f"{name!r} is no field; the fields are {', '.join(FIELDS)}"
                )

    @cached_property
    def wanted(self) -> list[str]:
        """The columns that matter."""
        named = [self.columns.get(name, name) for name in FIELDS]
        return sorted({*named, *self.template.names})

    def describe(self) -> dict[str, Any]:
        """Everything that decides what becomes of a row, as plain data; the same for the same."""
        told = {
            name: value
            for name, value in self.defaults.items()
            if name != "model" and (name not in _USUAL or value != _USUAL[name])
        }
        return {
            "model": self.model(self.defaults.get("model")).model_dump(mode="json"),
            "base": self.template.base and self.template.base.written,
            "to": [text.written for text in self.template.to],
            "vary": self.template.vary,
            "columns": dict(self.columns),
            "defaults": told,
        }

    def check_header(self, values: Mapping[str, Any]) -> list[str]:
        """Look at the columns of the first row; returns those that nothing uses.

        Raises:
            InvalidInput: no column names the image or gives edits, a mapped column is missing, or
                one looks like a misspelt field.
        """
        there = set(values)
        for name, column in self.columns.items():
            if column not in there:
                raise InvalidInput("map", f"no column {column!r} for {name!r} ({_list(there)})")
        if self.columns.get("image", "image") not in there:
            raise InvalidInput(
                "manifest",
                f"has no column 'image' ({_list(there)}); name the one that holds the path or "
                "address: --map image=COLUMN",
            )
        unused = sorted(there - set(self.wanted))
        for column in unused:
            if close := get_close_matches(column, set(FIELDS) - there, 1, cutoff=0.85):
                raise InvalidInput(
                    "manifest",
                    f"has a column {column!r}: if it is {close[0]!r}, say --map "
                    f"{close[0]}={column}, else rename it",
                )
        return unused


def _list(names: Iterable[str]) -> str:
    shown = sorted(names)
    return "the columns are " + ", ".join(shown[:20]) + (" …" if len(shown) > 20 else "")


@dataclass(frozen=True)
class Wish:
    """A row, understood: its image, its mask, and the rest of each spec as plain data."""

    row: RawRow
    place: str
    sha256: str | None
    """Of the image, where the row says it: it is then not read before a worker does."""
    mask: str | None
    """Where the mask lies, if it is an image."""
    specs: tuple[Mapping[str, Any], ...]


def understand(row: RawRow, plan: Plan, root: Root) -> Wish:
    """Make a wish of a row.

    Raises:
        InvalidInput: names the field, its value, and what to do.
    """
    if row.problem is not None:
        raise InvalidInput("row", row.problem)
    values = dict(plan.defaults)
    for name in FIELDS:
        given = row.values.get(plan.columns.get(name, name))
        if given is not None:
            values[name] = given
    for name in _TEXTS:
        if name in values:
            _check_text(name, values[name])
    image = values.get("image")
    if not image:
        raise InvalidInput("image", "is missing; give a path or an s3:// address")
    mask = values.get("mask")
    located = None if mask in {None, "auto"} else root.place(mask)
    specs = tuple(_specs(row, values, plan))
    return Wish(row, root.place(image), values.get("sha256"), located, specs)


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise InvalidInput(name, f"is {value!r:.80}, no text; give text")
    if _HALF_A_PAIR.search(value):  # which JSON can spell, and neither UTF-8 nor a path can hold
        raise InvalidInput(name, f"is {value!r:.80}, which holds half a surrogate pair; remove it")


def _specs(row: RawRow, values: Mapping[str, Any], plan: Plan) -> Iterable[Mapping[str, Any]]:
    base = values.get("base_prompt", "")
    if plan.template.base is not None:
        base = plan.template.base.fill("from", row.values)
    shared = {
        "base_prompt": base,
        "model": plan.model(values.get("model")),
        "sampler": _sampler((*_given(values, SAMPLER), ("name", values.get("sampler", "edict")))),
        "image": _image(_given(values, IMAGE)),
    }
    kind = values.get("kind", "edit")
    if kind != "edit":
        return [{**shared, "kind": kind}]
    own = {name: values[name] for name in EDIT if name in values and name != "mask"}
    if values.get("mask") == "auto":
        own["mask"] = "auto"
    edits = list(_edits(row, values, plan))
    if not edits:
        raise InvalidInput(
            "edit_prompt", "is missing; give edit_prompt or edits in the row, or --to for all rows"
        )
    if len(edits) > MAX_EDITS:
        raise InvalidInput("edits", f"has {len(edits)} edits, over the limit of {MAX_EDITS}")
    return [{**shared, "kind": "edit", **own, **edit} for edit in edits]


def _edits(row: RawRow, values: Mapping[str, Any], plan: Plan) -> Iterable[Mapping[str, Any]]:
    if plan.template.to:
        return [{"edit_prompt": prompt} for prompt in plan.template.edits(row.values)]
    edits = values.get("edits")
    if edits is None:
        return [{"edit_prompt": values["edit_prompt"]}] if "edit_prompt" in values else []
    if isinstance(edits, str) and edits.lstrip().startswith("["):
        try:
            edits = parse_json(edits)
        except JsonRefused as error:
            raise InvalidInput("edits", str(error)) from None
        except json.JSONDecodeError as error:
            raise InvalidInput("edits", f'is no list ({error}); give ["…", "…"]') from None
    if not isinstance(edits, list):
        raise InvalidInput("edits", f"is {edits!r:.80}, no list; give a list of prompts")
    return [_edit(edit) for edit in edits]


def _edit(edit: Any) -> Mapping[str, Any]:
    if isinstance(edit, str):
        return {"edit_prompt": edit}
    if isinstance(edit, dict) and edit.keys() <= set(EDIT) - {"mask"}:
        return {name: value for name, value in edit.items() if value is not None}
    raise InvalidInput(
        "edits", f"holds {edit!r:.80}; give prompts, or objects of {', '.join(EDIT[:-1])}"
    )


def _given(values: Mapping[str, Any], names: Iterable[str]) -> tuple[tuple[str, Any], ...]:
    found = tuple((name, values[name]) for name in names if name in values)
    for name, value in found:
        if not isinstance(value, str | int | float):
            raise InvalidInput(name, f"is {value!r:.80}, no single value; give a number or a word")
    return found


@lru_cache(maxsize=1_024)
def _sampler(given: tuple[tuple[str, Any], ...]) -> SamplerOptions:
    return _valid(SamplerOptions, dict(given))


@lru_cache(maxsize=1_024)
def _image(given: tuple[tuple[str, Any], ...]) -> ImageOptions:
    return _valid(ImageOptions, dict(given))


def _valid(kind: type[_M], values: Mapping[str, Any]) -> _M:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise invalid_input(error) from None


def build(wish: Wish, source: Source, mask: Source | None) -> list[Spec]:
    """The specs of a wish whose images are known.

    Raises:
        InvalidInput: names the field, its value, and what to do.
    """
    images = {"source": source} if mask is None else {"source": source, "mask": mask}
    specs: list[Spec] = []
    for fields in wish.specs:
        first = specs[0] if specs else None
        if isinstance(first, EditSpec) and _same_but_prompt(fields, wish.specs[0]):
            # A third of the time of asking each by itself.
            specs.append(first.to(fields["edit_prompt"]))
            continue
        try:
            specs.append(parse_spec({**fields, **images}))
        except InvalidInput as error:
            # The report begins with the spec's kind; the row's own fields have no such level.
            name = error.field.removeprefix(f"{fields['kind']}.")
            raise InvalidInput(name, error.problem) from None
    return specs


def _same_but_prompt(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        value is other[name] or name == "edit_prompt" for name, value in one.items()
    )
