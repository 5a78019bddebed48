"""Make a result again from its own recipe, and compare.

The repetition is a job like any other, run by whatever worker serves the model: producers need no
torch, and it shows what the deployment gives today. It asks for the batch shape of the first time;
device and library versions are the worker's, and told apart where they differ.
"""

import io
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from PIL import Image, ImageChops, ImageStat

from jobs.errors import InvalidInput, NotFound, ServiceUnavailable
from jobs.keys import sha256
from jobs.records import Job, Submission
from jobs.result_files import ImageSpec, Recipe
from jobs.results import Result
from jobs.specs import EditSpec, Source
from jobs.states import ENDED, State
from producer.client import Client

POLL_SECONDS = 0.5
_ENDED_AS = {State.FAILED: "has failed", State.CANCELLED: "was cancelled"}


class NotRepeated(ServiceUnavailable):
    """The repetition did not come to an end that can be compared."""

    code = "not_repeated"


@dataclass(frozen=True)
class Verdict:
    """How the repetition compares to the file."""

    job: str
    key: str
    """Where the repetition lies in the bucket."""
    same_pixels: bool
    same_bytes: bool
    psnr: float | None
    """Repetition against file, dB; None where the pixels are equal."""
    same_noise: bool
    """Whether both were generated from the same stored inversion."""
    fingerprints: tuple[str, str]
    """What the bits depend on: then, and now."""

    @property
    def same_numerics(self) -> bool:
        """Whether device, versions and batch shape were those of the first time."""
        return self.fingerprints[0] == self.fingerprints[1]

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"same_numerics": self.same_numerics}

    def __str__(self) -> str:
        if self.same_pixels:
            rest = "" if self.same_bytes else "; the file's bytes differ (metadata or encoder)"
            return "the same pixels" + rest if rest else "the same bytes"
        differs = f"differs by PSNR {self.psnr:.1f} dB"
        if not self.same_numerics:
            then, now = self.fingerprints
            return f"{differs}, as expected on other hardware or versions: then {then}, now {now}"
        if not self.same_noise:
            return f"{differs}: the stored noise was lost, and its new one is not the same"
        return f"{differs}, though device, versions, batch shape and noise are the same"


def reproduce(
    client: Client,
    recipe: Recipe,
    data: bytes,
    *,
    source: str | None = None,
    on_look: Callable[[Job], None] = lambda _: None,
) -> Verdict:
    """Run the recipe again and compare with the file `data` that it came from.

    `source` is the original image where it is not at its address any more. `on_look` is told of
    the job at every look.

    Raises:
        InvalidInput: the source or the mask is gone or has changed.
        NotRepeated: no worker serves this revision of the model, or the job did not succeed.
        AccessDenied, ServiceUnavailable: what the object store answered.
    """
    made = repeat(client, recipe, source=source)
    job = client.store.job(made.job_id)
    while job.state not in ENDED:
        on_look(job)
        time.sleep(POLL_SECONDS)
        job = client.store.job(made.job_id)
    return verdict_on(client, recipe, data, job)


def repeat(
    client: Client,
    recipe: Recipe,
    *,
    source: str | None = None,
    priority: int = 0,
    tenant: str | None = None,
) -> Submission:
    """Submit the recipe once more, as a job of its own.

    Raises:
        InvalidInput: the source or the mask is gone or has changed.
        NotRepeated: no worker serves this revision of the model.
        AccessDenied, ServiceUnavailable: what the object store answered.
    """
    spec = _with_source(client, recipe.spec, source)
    _check_workers(client, recipe)
    if isinstance(spec, EditSpec):
        spec = spec.model_copy(update={"rows": recipe.rows})
    [made] = client.submit([spec], force=True, priority=priority, tenant=tenant)
    return made


def _with_source(client: Client, spec: ImageSpec, source: str | None) -> ImageSpec:
    if source is None:
        _check_source(client, spec.source, "give the original with --source FILE")
    else:
        given = client.sources.admit(source)
        if given.sha256 != spec.source.sha256:
            raise InvalidInput(
                "source",
                f"{source} has the SHA-256 {given.sha256}, and the result was made from "
                f"{spec.source.sha256}; give that image",
            )
        spec = spec.model_copy(update={"source": given})
    if isinstance(spec, EditSpec) and isinstance(spec.mask, Source):
        _check_source(client, spec.mask, "put the mask back there")
    return spec


def _check_source(client: Client, source: Source, remedy: str) -> None:
    try:
        data = client.objects.read(source.uri, max_bytes=client.settings.max_source_bytes)
    except NotFound:
        raise InvalidInput("source", f"{source.uri} is gone; {remedy}") from None
    if sha256(data) != source.sha256:
        raise InvalidInput(
            "source",
            f"{source.uri} is another image now: its SHA-256 is {sha256(data)}, and the result was "
            f"made from {source.sha256}; {remedy}",
        )


def _check_workers(client: Client, recipe: Recipe) -> None:
    """A repetition by another revision would be another image; say so before it is made."""
    name, wanted = recipe.spec.model.name, recipe.model_revision
    alive = client.store.live_workers(seen_within=client.settings.lease_seconds)
    served = {worker.model_revision for worker in alive if worker.model == name}
    if not served:
        raise NotRepeated(f"no worker is alive for {name}; start one: edict worker --model {name}")
    if served != {wanted}:
        raise NotRepeated(
            f"the result was made by {name} at revision {wanted}, and the workers serve "
            f"{', '.join(sorted(served))}; let them serve {wanted} alone to repeat it"
        )


def verdict_on(client: Client, recipe: Recipe, data: bytes, job: Job) -> Verdict:
    """Compare a repetition that has ended with the file `data` of the first time.

    Raises:
        NotRepeated: it did not succeed, or another revision of the model made it.
        NotFound, AccessDenied, ServiceUnavailable: what the object store answered.
    """
    result = job.result
    if result is None:
        why = f"{job.error_code}: {job.error_message}" if job.error_code else "somebody's wish"
        raise NotRepeated(f"job {job.id}, the repetition, {_ENDED_AS[job.state]} ({why})")
    _check_revision(recipe, result)
    key = result.outputs["image"].key
    again = client.objects.get(key)
    figure = compare(data, again)
    return Verdict(
        job=str(job.id),
        key=key,
        same_pixels=figure is None,
        same_bytes=data == again,
        psnr=figure,
        same_noise=result.outputs["latents"].sha256 == recipe.latents_sha256,
        fingerprints=(recipe.fingerprint, result.generation_fingerprint or ""),
    )


def _check_revision(recipe: Recipe, result: Result) -> None:
    if result.model_revision != recipe.model_revision:
        raise NotRepeated(
            f"the repetition was made by revision {result.model_revision} of the model, and the "
            f"result by {recipe.model_revision}; let the workers serve that one alone"
        )


def compare(one: bytes, other: bytes) -> float | None:
    """PSNR of two image files' pixels in dB; None where they are equal, 0 for other sizes."""
    first, second = (Image.open(io.BytesIO(data)).convert("RGB") for data in (one, other))
    if first.size != second.size:
        return 0.0
    statistics = ImageStat.Stat(ImageChops.difference(first, second))
    mean_square = sum(statistics.sum2) / sum(statistics.count)
    return 10 * math.log10(255**2 / mean_square) if mean_square else None
