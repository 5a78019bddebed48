"""What is asked for: the bodies of requests, and the way from them to submitted jobs.

Images come with the request or lie in a bucket that jobs may read. Paths of this machine are no
addresses here: whoever may ask over the network must not read its files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from jobs.errors import InvalidInput
from jobs.records import Submission
from jobs.specs import (
    MAX_ROWS,
    EditPrompt,
    Guidance,
    ImageOptions,
    OutputOptions,
    Prompt,
    SamplerOptions,
    Source,
    Spec,
)
from jobs.webhooks import MAX_URL_CHARACTERS
from producer.admission import Row, admit
from producer.api.problems import FieldProblem, refused_rows
from producer.client import MAX_PRIORITY, Client
from producer.sources import SourceDoor

MAX_BATCH_ROWS = 1_000
IMAGE, MASK = "upload:image", "upload:mask"
"""Places of images that came with the request."""

Address = Annotated[
    str,
    Field(
        pattern=r"^s3://[^/]+/.+",
        max_length=2_048,
        description="An image in our bucket or one of EDICT_SOURCE_BUCKETS.",
        examples=["s3://photos/cat.jpg"],
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
    mask: Literal["auto"] | Address | None = None
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


class _Order(_Asked):
    model: str | None = Field(default=None, max_length=500, examples=["demo"])
    """Of the deployment's catalogue; None: its first."""
    priority: int = Field(default=0, ge=-MAX_PRIORITY, le=MAX_PRIORITY)
    force: bool = False
    """Make a new job where the same was asked before."""


class JobWish(RowWish, _Order):
    """One job, and how it is to be run."""

    batch: str | None = Field(default=None, max_length=200)
    """The name of a batch to put it into."""
    webhook: Webhook | None = None
    """Told of its end."""


class BatchWish(_Order):
    """Rows to submit as one batch. All are taken or none is."""

    name: str | None = Field(default=None, max_length=200, examples=["fruit"])
    """Rows of a name that is known are added to that batch."""
    rows: Annotated[list[RowWish], Field(min_length=1, max_length=MAX_BATCH_ROWS)]
    webhook: Webhook | None = None
    """Told when the batch has ended."""


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


@dataclass(frozen=True)
class _ApiDoor:
    """The door for those who ask over the network: no paths."""

    door: SourceDoor
    uploads: Mapping[str, Upload]

    def admit(self, where: str) -> Source:
        if where in self.uploads:
            upload = self.uploads[where]
            return self.door.upload(upload.data, upload.name)
        if not where.startswith("s3://"):
            raise InvalidInput("source", f"{where!r:.100} is not of the form s3://bucket/key")
        return self.door.admit(where)


def submit_job(client: Client, asked: Asked) -> Submission:
    """Check one job and submit it.

    Raises:
        InvalidInput, Refused: name the field.
    """
    wish = asked.wish
    [spec] = _specs(client, wish, [wish.row(asked.uploads)], asked.uploads, place="")
    batch_id = client.store.open_batch(wish.batch).id if wish.batch is not None else None
    [made] = client.submit(
        [spec],
        batch_id=batch_id,
        priority=wish.priority,
        force=wish.force,
        webhook=wish.webhook,
    )
    return made


def submit_batch(client: Client, wish: BatchWish) -> tuple[str, list[Submission]]:
    """Check all rows and submit them; returns the batch's id, too.

    Raises:
        InvalidInput, Refused: name the fields of every row that is wrong.
    """
    rows = [_row(number, each) for number, each in enumerate(wish.rows)]
    specs = _specs(client, wish, rows, {}, place="rows.{}.")
    batch = client.store.open_batch(wish.name)
    submissions = client.submit(
        specs,
        batch_id=batch.id,
        priority=wish.priority,
        force=wish.force,
        batch_webhook=wish.webhook,
    )
    return str(batch.id), submissions


def _row(number: int, wish: RowWish) -> Row:
    try:
        return wish.row({})
    except InvalidInput as error:
        raise InvalidInput(f"rows.{number}.{error.field}", error.problem) from None


def _specs(
    client: Client, order: _Order, rows: Sequence[Row], uploads: Mapping[str, Upload], place: str
) -> list[Spec]:
    door = _ApiDoor(client.sources, uploads)
    admission = admit(rows, door, client.model(order.model))
    if admission.refused:
        raise refused_rows(
            [
                FieldProblem(
                    field=place.format(each.row - 1)
                    + ("source" if each.field == "image" else each.field),
                    detail=each.reason.removeprefix(f"{each.field}: "),
                )
                for each in admission.refused
            ]
        )
    return admission.specs


def _one(name: str, given: Any, upload: str, uploads: Mapping[str, Upload]) -> Any:
    """The address that was given or the upload, not both."""
    if upload not in uploads:
        return given
    if given is not None:
        raise InvalidInput(name, "is given as an address and as an upload; leave one out")
    return upload
