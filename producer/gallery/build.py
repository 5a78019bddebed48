"""From finished jobs to one HTML file.

Everything typed by people goes through the template's escaping, images are data URIs, and the
page's own policy forbids every request and every script.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jobs.errors import JobsError
from jobs.keys import sha256
from jobs.objects import ObjectStore
from jobs.records import Job
from jobs.specs import EditSpec, ReconstructionSpec, Spec
from producer.downloads import replace_file
from producer.gallery.originals import png_size, prepared
from producer.gallery.words import Word, changed_words

_FOLDER = Path(__file__).parent

SMALL_PIXELS = 160
"""Images up to this side are magnified pixel by pixel; larger ones as the browser likes."""

WHOLE = ("image",)
SMALL = ("thumbnail", "image")
"""Results of earlier versions have no thumbnail."""


@dataclass(frozen=True)
class Credit:
    """Where an image comes from; the gallery says it."""

    title: str
    origin: str


@dataclass(frozen=True)
class Summary:
    """The head of the page."""

    title: str
    facts: Sequence[tuple[str, str]]
    """Pairs of a figure and what it counts."""


@dataclass(frozen=True)
class Picture:
    """One image with its caption; without data, what happened instead."""

    label: str
    words: Sequence[Word]
    uri: str | None = None
    small: bool = False
    note: str = ""
    trouble: str = ""


@dataclass(frozen=True)
class Card:
    """One source image and everything made from it."""

    title: str
    origin: str
    base_prompt: str
    settings: str
    exact: bool | None
    psnr: float | None
    pictures: Sequence[Picture]


def write_gallery(
    path: Path,
    jobs: Sequence[Job],
    objects: ObjectStore,
    summary: Summary,
    *,
    origins: Mapping[str, Credit] | None = None,
    max_source_bytes: int,
    roles: Sequence[str] = WHOLE,
) -> None:
    """Write the page of these jobs; `origins` go by the SHA-256 of the source's bytes.

    Of `roles`, the first that a job has is what is shown of it: `WHOLE` or `SMALL`.

    Raises:
        ObjectNotFound, AccessDenied, ServiceUnavailable: what the object store answered.
    """
    cards = [
        _card(together, objects, origins or {}, max_source_bytes, roles)
        for together in _by_image(jobs)
    ]
    replace_file(path, render(cards, summary).encode())


def render(cards: Sequence[Card], summary: Summary) -> str:
    """The page as text."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = (_FOLDER / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    template = environment.get_template("page.html")
    return template.render(cards=cards, summary=summary, css=css, css_digest=digest)


def _by_image(jobs: Sequence[Job]) -> Iterable[list[Job]]:
    """Jobs that share their noise belong to one card, in the order of their submission."""
    first = {job.spec.inversion_digest(): at for at, job in reversed(list(enumerate(jobs)))}
    ordered = sorted(jobs, key=lambda job: first[job.spec.inversion_digest()])
    for _, together in groupby(ordered, key=lambda job: job.spec.inversion_digest()):
        yield list(together)


def _card(
    jobs: Sequence[Job],
    objects: ObjectStore,
    origins: Mapping[str, Credit],
    max_bytes: int,
    roles: Sequence[str],
) -> Card:
    spec = jobs[0].spec
    made = {job.id: _bytes(job, objects, roles) for job in jobs}
    round_trip = next((job.result for job in jobs if _is_round_trip(job) and job.result), None)
    size = next((png_size(data) for data in made.values() if data), None)
    credit = origins.get(spec.source.sha256, Credit(spec.base_prompt or "image", ""))
    sampler = spec.sampler
    return Card(
        title=credit.title,
        origin=credit.origin,
        base_prompt=spec.base_prompt,
        settings=f"{sampler.steps} steps, strength {sampler.strength:g}, "
        f"guidance {sampler.guidance_scale:g}",
        exact=round_trip.exact if round_trip else None,
        psnr=round_trip.psnr if round_trip else None,
        pictures=[
            _original(spec, size, objects, max_bytes),
            *(_result(job, made[job.id]) for job in jobs if _is_round_trip(job)),
            *(_result(job, made[job.id]) for job in jobs if isinstance(job.spec, EditSpec)),
        ],
    )


def _original(
    spec: Spec, size: tuple[int, int] | None, objects: ObjectStore, max_bytes: int
) -> Picture:
    """The source, if it still is the image that came through the door."""
    try:
        data = objects.read(spec.source.uri, max_bytes=max_bytes)
    except JobsError as error:
        return Picture("original", (), trouble=str(error))
    if sha256(data) != spec.source.sha256:
        return Picture("original", (), trouble="the image has changed since it was submitted")
    return _picture("original", (), prepared(data, size, spec.image.fit))


def _is_round_trip(job: Job) -> bool:
    return isinstance(job.spec, ReconstructionSpec)


def _bytes(job: Job, objects: ObjectStore, roles: Sequence[str]) -> bytes | None:
    outputs = job.result.outputs if job.result else {}
    key = next((outputs[role].key for role in roles if role in outputs), None)
    return None if key is None else objects.get(key)


def _result(job: Job, data: bytes | None) -> Picture:
    label = "reconstruction" if _is_round_trip(job) else ""
    prompt = job.spec.edit_prompt if isinstance(job.spec, EditSpec) else ""
    words = changed_words(job.spec.base_prompt, prompt)
    if data is not None:
        return _picture(label, words, data)
    return Picture(label, words, trouble=job.error_message or f"the job is {job.state}")


def _picture(label: str, words: Sequence[Word], data: bytes) -> Picture:
    encoded = base64.b64encode(data).decode()
    small = max(png_size(data)) <= SMALL_PIXELS
    kind = "webp" if data[8:12] == b"WEBP" else "jpeg" if data[:2] == b"\xff\xd8" else "png"
    return Picture(label, words, uri=f"data:image/{kind};base64,{encoded}", small=small)
