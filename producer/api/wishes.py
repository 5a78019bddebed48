"""What is asked for: the bodies of requests; `producer.api.submitting` makes jobs of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from jobs.errors import InvalidInput
from jobs.marks import Verdict
from jobs.schedules import CatchUp, Overlap, Reason
from jobs.specs import (
    MAX_ROWS,
    EditPrompt,
    Guidance,
    ImageOptions,
    OutputOptions,
    Prompt,
    SamplerOptions,
)
from jobs.webhooks import MAX_URL_CHARACTERS
from producer.admission import Row
from producer.client import MAX_PRIORITY

MAX_BATCH_ROWS = 1_000
IMAGE, MASK = "upload:image", "upload:mask"
"""Places of images that came with the request."""

_ADDRESS = r"(s3://|https://|/)[^/]+/.+"


def _image(text: str) -> str:
    if re.match(_ADDRESS, text) is None:
        raise ValueError(
            "is no place of an image; give s3://bucket/key, https://host/path or /path/of/a/file"
        )
    return text


def _mask(text: str) -> str:
    return text if text == "auto" else _image(text)


Address = Annotated[
    str,
    AfterValidator(_image),
    Field(
        max_length=2_048,
        description="An image in our bucket or one of EDICT_SOURCE_BUCKETS, at an https:// "
        "address of one of EDICT_SOURCE_HOSTS, or at a path under one of EDICT_SOURCE_ROOTS.",
        examples=["s3://photos/cat.jpg"],
        json_schema_extra={"pattern": f"^{_ADDRESS}"},
    ),
]
MaskAddress = Annotated[
    str,
    AfterValidator(_mask),
    Field(
        max_length=2_048,
        description="An image as the source is, white where the source may change; or auto, which "
        "finds that from the prompts.",
        examples=["auto"],
        json_schema_extra={"pattern": f"^(auto$|{_ADDRESS})"},
    ),
]
Webhook = Annotated[
    str, Field(max_length=MAX_URL_CHARACTERS, examples=["https://example.org/done"])
]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class RowWish(_Asked):
    """One job. Fields that its kind does not know are refused."""

    kind: Literal["edit", "inversion", "reconstruction"] = "edit"
    source: Address | None = None
    base_prompt: Prompt = Field(default="", examples=["a photo of a cat"])
    edit_prompt: EditPrompt | None = Field(default=None, examples=["a photo of a dog"])
    negative_prompt: Prompt = ""
    edit_guidance_scale: Guidance | None = None
    attention_control: bool = False
    mask: MaskAddress | None = None
    keep_pixels: bool = False
    """Outside of the mask the result has the source's own pixels."""
    image: ImageOptions = ImageOptions()
    sampler: SamplerOptions = SamplerOptions()
    output: OutputOptions = OutputOptions()
    rows: int | None = Field(default=None, ge=1, le=MAX_ROWS)

    def row(self, uploads: Mapping[str, "Upload"]) -> Row:
        """The row that the door takes.

        Raises:
            InvalidInput: there is no image, or two.
        """
        given = self.model_dump(exclude_unset=True, include=set(RowWish.model_fields))
        given["kind"] = self.kind
        source = _one("source", given.pop("source", None), IMAGE, uploads)
        if source is None:
            problem = "is missing; give an s3:// address, or upload the image as a form"
            raise InvalidInput("source", problem)
        mask = _one("mask", given.get("mask"), MASK, uploads)
        return Row(source, given if mask is None else {**given, "mask": mask})


class Order(_Asked):
    """How jobs are to be run."""

    model: str | None = Field(default=None, max_length=500, examples=["demo"])
    """Of the deployment's catalogue; None: its first."""
    priority: int = Field(default=0, ge=-MAX_PRIORITY, le=MAX_PRIORITY)
    force: bool = False
    """Make a new job where the same was asked before."""


class JobWish(RowWish, Order):
    """One job, and how it is to be run."""

    batch: str | None = Field(default=None, max_length=200)
    """The name of a batch to put it into."""
    webhook: Webhook | None = None
    """Told of its end."""


class BatchWish(Order):
    """Rows to submit as one batch, or a manifest of them. All are taken or none is."""

    name: str | None = Field(default=None, max_length=200, examples=["fruit"])
    """Rows of a name that is known are added to that batch."""
    rows: Annotated[list[RowWish], Field(min_length=1, max_length=MAX_BATCH_ROWS)] | None = None
    manifest: Annotated[str, Field(pattern=r"^s3://[^/]+/.+", max_length=2_048)] | None = Field(
        default=None, examples=["s3://photos/fruit.jsonl"]
    )
    """JSON lines, CSV, Parquet, or a prefix that ends in `/`; needs a name. Of any length: the same
    again goes on where it was interrupted."""
    webhook: Webhook | None = None
    """Told when the batch has ended."""

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.rows is None) == (self.manifest is None):
            raise ValueError("give rows or a manifest, one of both")
        if self.manifest is not None and self.name is None:
            raise ValueError("a manifest needs a name, by which it goes on when it is sent again")
        return self


class UploadWish(_Asked):
    """An image that is to be uploaded."""

    size: int = Field(ge=1, examples=[123_456])
    """Bytes, exactly."""


class ScheduleWish(_Asked):
    """What to make of the images under a prefix, and when."""

    name: str = Field(min_length=1, max_length=150, pattern=r"^[^/]*$", examples=["nightly"])
    cron: str = Field(max_length=200, examples=["0 2 * * *"])
    timezone: str = Field(default="UTC", max_length=64, examples=["Europe/Berlin"])
    source: Annotated[
        str, Field(pattern=r"^s3://[^/]+(/.*)?$", max_length=2_048, examples=["s3://photos/new/"])
    ]
    base_prompt: Prompt = ""
    """`{name}`, `{path}`, `{folder}` and `{caption}` stand for what each image has."""
    edit_prompts: Annotated[tuple[EditPrompt, ...], Field(max_length=100)] = ()
    """None: images are only inverted."""
    sampler: SamplerOptions = SamplerOptions()
    image: ImageOptions = ImageOptions()
    output: OutputOptions = OutputOptions()
    model: str | None = Field(default=None, max_length=500)
    priority: int = Field(default=0, ge=-MAX_PRIORITY, le=MAX_PRIORITY)
    select: Annotated[tuple[Reason, ...], Field(min_length=1)] = tuple(Reason)
    catch_up: CatchUp = CatchUp.ONCE
    overlap: Overlap = Overlap.QUEUE


class MarkWish(_Asked):
    """What to say of a result."""

    verdict: Verdict | None = Field(examples=["approved"])
    """Null takes it back."""


@dataclass(frozen=True)
class Upload:
    """An image that came with the request; `name` is the sender's, for messages only."""

    data: bytes
    name: str


@dataclass(frozen=True)
class Asked:
    """A job that is asked for, with its images as far as they came with it."""

    wish: JobWish
    uploads: Mapping[str, Upload] = field(default_factory=dict)


def _one(name: str, given: Any, upload: str, uploads: Mapping[str, Upload]) -> Any:
    """The address that was given or the upload, not both."""
    if upload not in uploads:
        return given
    if given is not None:
        raise InvalidInput(name, "is given as an address and as an upload; leave one out")
    return upload
