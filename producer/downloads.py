"""Results out of the bucket into a folder.

Invariant: a file's name is made here from letters, digits, dots and dashes, so that no prompt and
no key can place a file outside the folder; files are written beside and renamed, so that neither
a half-written file nor a link that lay there is ever followed or left.
"""

import json
import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.errors import InvalidInput, ServiceUnavailable
from jobs.keys import sha256
from jobs.objects import ObjectStore
from jobs.records import Job
from jobs.results import Output
from jobs.specs import EditSpec

SIDECAR = "results.jsonl"
DOWNLOADS = 8
_SLUG_CHARACTERS = 48


@dataclass(frozen=True)
class Download:
    """What became of one job's image."""

    job: Job
    file: str | None
    """Its name in the folder; None where there is no image (not succeeded, or an inversion)."""
    fetched: bool = False
    """False: it was there already."""


def download(jobs: Sequence[Job], objects: ObjectStore, folder: Path) -> list[Download]:
    """Fetch the images of jobs that succeeded, and write the sidecar; what is there is kept.

    Raises:
        InvalidInput: the folder cannot be written.
        ObjectNotFound, AccessDenied, ServiceUnavailable: what the object store answered.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        width = max(4, len(str(len(jobs))))
        with ThreadPoolExecutor(DOWNLOADS) as pool:
            done = list(
                pool.map(
                    lambda numbered: _fetch(
                        numbered[1], f"{numbered[0]:0{width}}", objects, folder
                    ),
                    enumerate(jobs, start=1),
                )
            )
        _write_sidecar(done, folder)
    except OSError as error:
        raise InvalidInput("to", f"{folder} cannot be written: {error.strerror}") from None
    return done


def file_name(job: Job, number: str, key: str) -> str:
    """`0007-a-pencil-sketch-of-a-cat-9f3a1c77.png`: sorts by number, says what, and is unique."""
    said = job.spec.edit_prompt if isinstance(job.spec, EditSpec) else job.spec.kind
    suffix = slug(key.rpartition(".")[2]) or "bin"
    return f"{number}-{slug(said) or job.spec.kind}-{job.id.hex[-8:]}.{suffix}"


def slug(text: str) -> str:
    """Text as a part of a file name: small letters, digits and dashes."""
    words = re.sub(r"[^a-z0-9]+", "-", text.lower())
    return words[:_SLUG_CHARACTERS].strip("-")


def replace_file(path: Path, data: bytes) -> None:
    """Write the file at once: a reader sees the old bytes or the new, and a link is replaced."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.unlink(missing_ok=True)
    try:
        with temporary.open("xb") as file:
            file.write(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _fetch(job: Job, number: str, objects: ObjectStore, folder: Path) -> Download:
    if job.unreadable:
        return Download(job, None)
    output = job.result.outputs.get("image") if job.result else None
    if output is None:
        return Download(job, None)
    name = file_name(job, number, output.key)
    if recipe := job.result.outputs.get("sidecar") if job.result else None:
        _fetch_file(job, recipe, objects, folder / file_name(job, number, recipe.key))
    return Download(job, name, fetched=_fetch_file(job, output, objects, folder / name))


def _fetch_file(job: Job, output: Output, objects: ObjectStore, path: Path) -> bool:
    """Fetch one object unless it is there; says whether it was not."""
    if path.is_file() and not path.is_symlink() and sha256(path.read_bytes()) == output.sha256:
        return False
    data = objects.get(output.key)
    if sha256(data) != output.sha256:
        raise ServiceUnavailable(
            f"{objects.uri(output.key)} has other bytes than job {job.id} wrote; "
            "something else wrote to the bucket. Submit the job again with --force"
        )
    replace_file(path, data)
    return True


def _write_sidecar(downloads: Iterable[Download], folder: Path) -> None:
    lines = [json.dumps(describe(each), ensure_ascii=False) for each in downloads]
    replace_file(folder / SIDECAR, "".join(f"{line}\n" for line in lines).encode())


def describe(done: Download) -> dict[str, Any]:
    """A line of the sidecar: which file is what, from what, and how well."""
    job = done.job
    if job.unreadable:
        shown = {"job": str(job.id), "kind": job.kind, "state": job.state, "file": None}
        return {**shown, "error": job.unreadable}
    spec, result = job.spec, job.result
    output = result.outputs.get("image") if result else None
    return {
        "job": str(job.id),
        "kind": spec.kind,
        "state": job.state,
        "file": done.file,
        "source": spec.source.uri,
        "base_prompt": spec.base_prompt,
        "edit_prompt": spec.edit_prompt if isinstance(spec, EditSpec) else None,
        "model": spec.model.name,
        "key": output.key if output else None,
        "sha256": output.sha256 if output else None,
        "exact": result.exact if result else None,
        "psnr": result.psnr if result else None,
        "error": job.error_message,
    }
