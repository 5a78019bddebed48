"""What a job is asked to do: frozen, validated, small, and the same everywhere.

A spec is made once, at the door, and travels as JSON. Its digest is the job's identity: the same
question asked twice is one job. Nothing in a spec depends on where the image lies, only on what it
is: `Source.uri` is left out of every digest.
"""

import hashlib
import json
import operator
import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from jobs.errors import InvalidInput, NewerInput
from jobs.model_names import split_name

MAX_PROMPT_CHARACTERS = 2_000
MAX_IMAGE_SIZE = 4_096
MAX_LABEL_CHARACTERS = 500
MAX_ROWS = 1_024

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def _printable(text: str) -> str:
    found = _UNPRINTABLE.search(text)
    if found:
        raise ValueError(
            f"holds the control character {found.group()!r} at position {found.start()}; remove it"
        )
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; say what the edited image should show")
    return text


Prompt = Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS), AfterValidator(_printable)]
EditPrompt = Annotated[Prompt, AfterValidator(_not_blank)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _without_sign_of_zero(number: float) -> float:
    # Else -0.0 and 0.0 would be equal specs of different digests.
    return number + 0.0


Guidance = Annotated[float, Field(ge=0, le=100), AfterValidator(_without_sign_of_zero)]


def _four_decimals(number: float) -> float:
    if round(number, 4) != number:
        raise ValueError(
            f"has more than four decimals; use {round(number, 4)} (mixing is done in integers)"
        )
    return number


def _ordered(interval: tuple[float, float]) -> tuple[float, float]:
    if not interval[0] < interval[1]:
        raise ValueError("is empty; give the smaller end first")
    return interval


Share = Annotated[float, Field(ge=0, le=1), AfterValidator(_without_sign_of_zero)]


Pixels = Annotated[int, Field(ge=0, le=2**16)]
Length = Annotated[int, Field(ge=1, le=2**16)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Source(_Frozen):
    """An image in the object store, and the digest of its bytes when it was submitted."""

    uri: Annotated[
        str, Field(pattern=r"^s3://[^/]+/.+", max_length=2_048), AfterValidator(_printable)
    ]
    sha256: Sha256


def _model_name(name: str) -> str:
    split_name(name)
    return name


class ModelRef(_Frozen):
    """A model of the deployment's catalogue; without a revision, the one the workers serve.

    The name says which LoRA adapters are fused into it, if any (see `jobs.model_names`).
    """

    name: Annotated[
        str,
        Field(min_length=1, max_length=500),
        AfterValidator(_printable),
        AfterValidator(_model_name),
    ]
    revision: (
        Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable)] | None
    ) = None

    @model_validator(mode="after")
    def _label_fits(self) -> Self:
        if len(self.label) > MAX_LABEL_CHARACTERS:
            raise ValueError(
                f"name and revision have {len(self.label)} characters together; "
                f"the limit is {MAX_LABEL_CHARACTERS}"
            )
        return self

    @property
    def label(self) -> str:
        """`name`, or `name@revision`: jobs of one label can be run by the same workers."""
        return self.name if self.revision is None else f"{self.name}@{self.revision}"


class ImageOptions(_Frozen):
    """How the image is brought to the model's size.

    `size` is in pixels (None: the model's own). `crop` cuts the centre square; `fit` keeps the
    whole image, its longer side `size`.
    """

    size: int | None = Field(default=None, ge=8, le=MAX_IMAGE_SIZE)
    fit: Literal["crop", "fit"] = "crop"


OutputFormat = Literal["png", "jpeg", "webp"]


class OutputOptions(_Frozen):
    """The result's file. `quality`, 1 to 100, is for `jpeg` and `webp`, which are lossy here."""

    format: OutputFormat = "png"
    quality: int | None = Field(default=None, ge=1, le=100)
    """None: 90."""

    @model_validator(mode="after")
    def _lossy(self) -> Self:
        if self.format == "png" and self.quality is not None:
            raise ValueError(
                f"quality {self.quality} with format png, which loses nothing; "
                "leave quality out, or use jpeg or webp"
            )
        return self


SamplerName = Literal["edict", "bdia", "o-belm", "ddim", "sdedit"]


class SamplerOptions(_Frozen):
    """How to invert and to generate.

    `edict` (arXiv 2211.12446) is exact; so is `bdia` (2307.10829) at half the network calls.
    `o-belm` (2410.07273) is nearly exact, `ddim` is not, and `sdedit` (2108.01073) only adds noise.
    """

    name: SamplerName = "edict"
    steps: int = Field(default=50, ge=1, le=1_000)
    strength: float = Field(default=0.8, gt=0, le=1)
    guidance_scale: Guidance = 3.0
    mix: Annotated[float, AfterValidator(_four_decimals)] = Field(default=0.93, ge=0.5, le=1)
    """EDICT's mixing weight p."""
    gamma: Annotated[float, AfterValidator(_four_decimals)] = Field(default=0.96, gt=0, le=1)
    """BDIA's weight of the level before."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of SDEdit's noise."""
    guidance_rescale: Share = 0.0
    """Bring the spread of the guided noise back to that of the prompt's own (arXiv 2305.08891)."""
    guidance_interval: Annotated[tuple[Share, Share], AfterValidator(_ordered)] = (0.0, 1.0)
    """The part of the noise levels that guidance is kept to (arXiv 2404.07724)."""
    original_size: tuple[Length, Length] | None = None
    """What SDXL is told of the image before it was cropped: height, width. None: the image's own.
    Models that are not told sizes refuse this and the next two."""
    crop_top_left: tuple[Pixels, Pixels] = (0, 0)
    """Where SDXL is told that the image was cropped: top, left."""
    target_size: tuple[Length, Length] | None = None
    """The size that SDXL is told to aim at: height, width. None: the image's own."""
    alternate: bool = True
    """Whether the members of EDICT's pair take turns in moving first, as the paper has it."""

    @model_validator(mode="after")
    def _keeps_a_step(self) -> Self:
        if self.steps * self.strength < 1 - 1e-9:
            raise ValueError(
                f"strength {self.strength} of {self.steps} steps leaves no step to run; "
                f"use a strength of at least {1 / self.steps:.4g}"
            )
        return self


_ADDED: dict[str, Any] = {
    "attention_control": False,
    "mask": None,
    "keep_pixels": False,
    "output": {"format": "png", "quality": None},
    "rows": None,
}
_ADDED_TO_SAMPLER: dict[str, Any] = {
    "gamma": 0.96,
    "seed": 0,
    "guidance_rescale": 0.0,
    "guidance_interval": [0.0, 1.0],
    "original_size": None,
    "crop_top_left": [0, 0],
    "target_size": None,
    "alternate": True,
}
"""Fields that came after the first specs, with their defaults. At their default they are no part of
a recipe, so that what was stored under older digests is still found."""


def _at_their_default_left_out(plain: dict[str, Any]) -> dict[str, Any]:
    sampler = _beyond(_ADDED_TO_SAMPLER, plain["sampler"])
    return _beyond(_ADDED, plain) | {"sampler": sampler}


def _beyond(defaults: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in plain.items()
        if name not in defaults or value != defaults[name]
    }


def _without_place(value: Any) -> Any:
    """Leave out where a source lies; what it is stays."""
    if not isinstance(value, dict):
        return value
    return {name: part for name, part in value.items() if name != "uri"}


class _Spec(_Frozen):
    version: Literal[1] = 1
    """Goes up where a spec would otherwise be misread. A new field, kind or choice is none such:
    a worker that does not know it leaves the job to newer ones (see `jobs.store.leasing`)."""
    source: Source
    model: ModelRef
    base_prompt: Prompt = ""
    """What the image shows; the empty prompt is a valid description."""
    image: ImageOptions = ImageOptions()
    sampler: SamplerOptions = SamplerOptions()

    def recipe(self) -> dict[str, Any]:
        """Everything that decides the result, as plain JSON: all but where the images lie."""
        plain = _at_their_default_left_out(self.model_dump(mode="json"))
        return {name: _without_place(value) for name, value in plain.items()}

    @staticmethod
    def recipe_part(name: str, plain: Any) -> tuple[Any] | None:
        """What `recipe` holds of a field; None where it leaves it out.

        For `jobs.writing`, which asks one field at a time.
        """
        if name == "sampler":
            return (_beyond(_ADDED_TO_SAMPLER, plain),)
        if name in _ADDED and plain == _ADDED[name]:
            return None
        return (_without_place(plain),)

    @classmethod
    def is_written(cls, name: str, value: Any) -> bool:
        """Whether `model_dump` holds a field of that value. For `jobs.writing`, likewise."""
        leave_out = cls.model_fields[name].exclude_if
        return leave_out is None or not leave_out(value)

    def digest(self) -> str:
        """The job's identity: SHA-256 of its recipe."""
        return digest_of(self.recipe())

    def inversion_recipe(self) -> dict[str, Any]:
        """The part of the recipe that decides the noise: the same for all edits of one image."""
        shared = {"version", "source", "model", "base_prompt", "image", "sampler"}
        return {name: value for name, value in self.recipe().items() if name in shared}

    def inversion_digest(self) -> str:
        """What edits of one image have in common, so that they can travel together."""
        return digest_of(self.inversion_recipe())


class InversionSpec(_Spec):
    """Find the noise pair from which the model generates the image."""

    kind: Literal["inversion"] = "inversion"


class EditSpec(_Spec):
    """Generate from the image's noise under another prompt."""

    kind: Literal["edit"] = "edit"
    edit_prompt: EditPrompt
    negative_prompt: Prompt = ""
    edit_guidance_scale: Guidance | None = None
    """Guidance of the generation; None: the inversion's own."""
    attention_control: bool = False
    """Prompt-to-Prompt (arXiv 2208.01626): keep the base prompt's attention maps."""
    mask: Literal["auto"] | Source | None = None
    """What may change: an image as large as the source, white there; "auto" finds it from the
    prompts; None: everything."""
    keep_pixels: bool = Field(default=False, exclude_if=operator.not_)
    """Around the mask, take the source's own pixels instead of those decoded from its latent.
    Written down where it is true only: workers from before it read all other specs."""
    output: OutputOptions = OutputOptions()
    rows: int | None = Field(default=None, ge=1, le=MAX_ROWS)
    """Rows of the network's batch, on which the last bits depend; None: as the worker likes."""

    @field_validator("keep_pixels")
    @classmethod
    def _has_a_mask(cls, keep_pixels: bool, info: ValidationInfo) -> bool:
        # A mask that is wrong is not in the data, and is reported itself.
        if keep_pixels and info.data.get("mask", "") is None:
            raise ValueError(
                "keeps the pixels outside of a mask, and there is no mask; "
                "give one, or auto, or leave keep_pixels out"
            )
        return keep_pixels

    def to(self, edit_prompt: str) -> "EditSpec":
        """The same edit to another prompt; only the prompt is checked.

        Raises:
            InvalidInput: see `parse_spec`.
        """
        try:
            prompt = _EDIT_PROMPT.validate_python(edit_prompt)
        except ValidationError as error:
            raise InvalidInput("edit_prompt", invalid_input(error).problem) from None
        return self.model_copy(update={"edit_prompt": prompt})


class ReconstructionSpec(_Spec):
    """Invert and generate back, and say how exactly the image returned."""

    kind: Literal["reconstruction"] = "reconstruction"
    output: OutputOptions = OutputOptions()


Spec = Annotated[InversionSpec | EditSpec | ReconstructionSpec, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[Spec] = TypeAdapter(Spec)
_EDIT_PROMPT: TypeAdapter[str] = TypeAdapter(EditPrompt)


def parse_spec(value: object) -> Spec:
    """Check a spec given as plain JSON data.

    Raises:
        InvalidInput: names the first field that is wrong, its value and the limit. As a
            NewerInput where a version, a kind, a choice or a field is none that we know.
    """
    try:
        return _ADAPTER.validate_python(value)
    except ValidationError as error:
        raise invalid_input(error) from None


def invalid_input(error: Any) -> InvalidInput:
    """Turn pydantic's report into one sentence that names the field, the value and the limit."""
    found = error.errors(include_url=False)
    first = found[0]
    field = ".".join(str(part) for part in first["loc"]) or "spec"
    problem = first["msg"].removeprefix("Value error, ")
    value = first.get("input")
    shown = "" if isinstance(value, dict) else f" (got {value!r:.120})"
    unknown = any(each["type"] in _UNKNOWN for each in found)
    return (NewerInput if unknown else InvalidInput)(field, problem + shown)


_UNKNOWN = {"extra_forbidden", "literal_error", "union_tag_invalid"}
"""What pydantic says of a newer version's fields, of its version and choices, and of its kinds."""


def digest_of(value: object) -> str:
    """SHA-256 of the canonical JSON of plain data."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
