"""The shapes that results take. Each is a function that writes one part from a stream of records.

| format | a part is | read by |
|---|---|---|
| `files` | a folder of images with `metadata.jsonl` | Hugging Face `imagefolder`, people |
| `jsonl` | lines of prompts, figures and addresses; no images | anything |
| `parquet` | rows with both images inside | Hugging Face `datasets`, pandas |
| `webdataset` | a tar of `KEY.original.…`, `KEY.edited.…`, `KEY.json` | `webdataset` |
"""

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from jobs.records import Job
from jobs.specs import EditSpec
from producer.bulk.streams import arrow
from producer.export.targets import Target

ROW_GROUP = 64
"""Rows with their images in memory at once."""


@dataclass(frozen=True)
class Record:
    """One result; images are None where the format has none."""

    job: Job
    original: bytes | None
    edited: bytes | None
    flagged: bool = False
    """Whether it falls short of the batch's gate."""

    @property
    def original_name(self) -> str:
        """A name for the original's file."""
        return f"{self.job.id}.original.{_suffix(self.job.spec.source.uri)}"

    @property
    def edited_name(self) -> str:
        """A name for the result's file."""
        output = self.job.result.outputs.get("image") if self.job.result else None
        return f"{self.job.id}.edited.{_suffix(output.key if output else '')}"

    def describe(self) -> dict[str, Any]:
        """Prompts, figures and where everything came from; the same names in every format."""
        spec, result = self.job.spec, self.job.result
        assert result is not None  # noqa: S101 - only succeeded jobs are exported
        output = result.outputs.get("image")
        return {
            "job": str(self.job.id),
            "kind": spec.kind,
            "base_prompt": spec.base_prompt,
            "edit_prompt": spec.edit_prompt if isinstance(spec, EditSpec) else None,
            "negative_prompt": spec.negative_prompt if isinstance(spec, EditSpec) else None,
            "model": spec.model.name,
            "model_revision": result.model_revision,
            "sampler": spec.sampler.name,
            "steps": spec.sampler.steps,
            "strength": spec.sampler.strength,
            "guidance_scale": spec.sampler.guidance_scale,
            "source": spec.source.uri,
            "source_sha256": spec.source.sha256,
            "key": output.key if output else None,
            "sha256": output.sha256 if output else None,
            "exact": result.exact,
            "max_error": result.max_error,
            "psnr": result.psnr,
            "similarity": result.similarity,
            "mask_area": result.mask_area,
            "flagged": self.flagged,
        }


Write = Callable[[str, Iterable[Record], Target], None]


@dataclass(frozen=True)
class Format:
    """A shape, and whether it holds the images themselves."""

    write: Write
    images: bool


def write_files(part: str, records: Iterable[Record], target: Target) -> None:
    """Images one by one, then what they are: a folder without metadata is no part."""
    lines = []
    for record in records:
        for name, data in _images(record):
            with target.file(f"{part}/{name}") as file:
                file.write(data)
        named = {"file_name": record.edited_name, "original_file_name": record.original_name}
        lines.append(json.dumps(named | record.describe(), ensure_ascii=False) + "\n")
    with target.file(f"{part}/metadata.jsonl") as file:
        file.write("".join(lines).encode())


def write_jsonl(part: str, records: Iterable[Record], target: Target) -> None:
    """One object a line."""
    with target.file(f"{part}.jsonl") as file:
        for record in records:
            file.write((json.dumps(record.describe(), ensure_ascii=False) + "\n").encode())


def write_webdataset(part: str, records: Iterable[Record], target: Target) -> None:
    """A tar whose files of one key stand together, as `webdataset` wants them."""
    with target.file(f"{part}.tar") as file, tarfile.open(fileobj=file, mode="w") as tar:
        for record in records:
            described = json.dumps(record.describe(), ensure_ascii=False).encode()
            for name, data in [*_images(record), (f"{record.job.id}.json", described)]:
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))


def write_parquet(part: str, records: Iterable[Record], target: Target) -> None:
    """Columns as `datasets` reads them, both images decoded there without further words."""
    pa = arrow()
    schema = _schema(pa)
    with (
        target.file(f"{part}.parquet") as file,
        pa.parquet.ParquetWriter(file, schema, compression="zstd") as table,
    ):
        for group in _groups(records):
            rows = [
                {
                    "original": {"bytes": each.original, "path": each.original_name},
                    "edited": {"bytes": each.edited, "path": each.edited_name},
                    **each.describe(),
                }
                for each in group
            ]
            table.write_table(pa.Table.from_pylist(rows, schema=schema))


def _schema(pa: Any) -> Any:
    text, real = pa.string(), pa.float64()
    image = pa.struct([("bytes", pa.binary()), ("path", text)])
    names = (
        "job", "kind", "base_prompt", "edit_prompt", "negative_prompt", "model", "model_revision",
        "sampler",
    )  # fmt: skip
    columns = [("original", image), ("edited", image), *((name, text) for name in names)]
    columns += [("steps", pa.int64()), ("strength", real), ("guidance_scale", real)]
    columns += [(name, text) for name in ("source", "source_sha256", "key", "sha256")]
    columns += [("exact", pa.bool_()), ("max_error", real), ("psnr", real)]
    columns += [("similarity", real), ("mask_area", real), ("flagged", pa.bool_())]
    kinds = {text: "string", real: "float64", pa.int64(): "int64", pa.bool_(): "bool"}
    features = {
        name: {"_type": "Image"} if kind == image else {"dtype": kinds[kind], "_type": "Value"}
        for name, kind in columns
    }
    described = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema(columns, metadata=described)


def _groups(records: Iterable[Record]) -> Iterator[list[Record]]:
    group: list[Record] = []
    for record in records:
        group.append(record)
        if len(group) == ROW_GROUP:
            yield group
            group = []
    if group:
        yield group


def _images(record: Record) -> Iterator[tuple[str, bytes]]:
    if record.original is not None:
        yield record.original_name, record.original
    if record.edited is not None:
        yield record.edited_name, record.edited


def _suffix(key: str) -> str:
    suffix = key.rpartition(".")[2].lower()
    return suffix if suffix.isalnum() and suffix.isascii() and len(suffix) <= 5 else "bin"


FORMATS = {
    "files": Format(write_files, images=True),
    "jsonl": Format(write_jsonl, images=False),
    "parquet": Format(write_parquet, images=True),
    "webdataset": Format(write_webdataset, images=True),
}
