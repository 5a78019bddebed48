"""`edict export` and `edict batches`: results in the shapes that training code reads."""

import errno
import io
import json
import tarfile
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image
from sqlalchemy import update

from jobs.errors import AccessDenied, InvalidInput
from jobs.retention import What
from jobs.tables import jobs
from producer.client import Client
from producer.export import Condition, open_target, run_export
from producer.export import run as course
from producer.retention import Pruner
from tests.producer.conftest import Edict, Finish, png

EDIT = ["submit", "edit", "--from", "a photo", "--batch", "fruit"]
Export = Callable[..., Any]


@pytest.fixture
def fruit(edict: Edict, finish: Finish, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three results, in parts of two."""
    monkeypatch.setattr(course, "PART_JOBS", 2)
    edict(*EDIT, photo, "--to", "limes", "--to", "ein Löwe, 犬", "--to", "pears")
    finish("fruit", png())


@pytest.fixture
def export(client: Client) -> Export:
    def run(to: str, form: str = "jsonl", *where: str) -> Any:
        batch = client.store.batch("fruit")
        filters = [Condition.parse(each) for each in where]
        target = open_target(to, client.objects)
        return run_export(
            client.store, client.objects, batch, target, form, filters, max_bytes=10**6
        )

    return run


def size_of(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data)) as image:
        return image.size


def lines_of(*paths: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def test_files_are_a_folder_that_datasets_reads(edict: Edict, fruit: None) -> None:
    done = edict("export", "fruit", "--to", "set")
    assert done.exit_code == 0
    assert "3 written" in done.stdout
    folders = sorted(path for path in Path("set").iterdir() if path.is_dir())
    assert [path.name for path in folders] == ["part-000000", "part-000001"]
    for folder in folders:
        for line in lines_of(folder / "metadata.jsonl"):
            assert size_of((folder / line["file_name"]).read_bytes()) == (32, 32)
            assert size_of((folder / line["original_file_name"]).read_bytes()) == (48, 32)
    prompts = [
        line["edit_prompt"] for each in folders for line in lines_of(each / "metadata.jsonl")
    ]
    assert prompts == ["limes", "ein Löwe, 犬", "pears"]


def test_parquet_holds_both_images_and_says_so_to_datasets(export: Export, fruit: None) -> None:
    export("set", "parquet")
    tables = [pq.read_table(path) for path in sorted(Path("set").glob("*.parquet"))]
    rows = [row for table in tables for row in table.to_pylist()]
    assert [row["edit_prompt"] for row in rows] == ["limes", "ein Löwe, 犬", "pears"]
    assert size_of(rows[0]["original"]["bytes"]) == (48, 32)
    features = json.loads(tables[0].schema.metadata[b"huggingface"])["info"]["features"]
    assert features["edited"] == {"_type": "Image"}
    assert list(features) == tables[0].column_names


def test_a_webdataset_keeps_the_files_of_a_key_together(export: Export, fruit: None) -> None:
    export("set", "webdataset")
    with tarfile.open("set/part-000000.tar") as tar:
        names = tar.getnames()
        first = json.load(tar.extractfile(names[2]))  # type: ignore[arg-type]
    assert [name.partition(".")[2] for name in names] == ["original.png", "edited.png", "json"] * 2
    assert len({name.partition(".")[0] for name in names}) == 2
    assert first["edit_prompt"] == "limes"


def test_exporting_again_writes_only_what_is_new(
    edict: Edict, export: Export, finish: Finish, fruit: None, photo: Path
) -> None:
    assert export("set").written == 3
    assert (export("set").written, export("set").kept) == (0, 3)
    edict(*EDIT, photo, "--to", "figs")
    assert export("set").left_out == 1
    finish("fruit", png())
    again = export("set")
    assert (again.written, again.kept) == (1, 3)
    assert len(lines_of(*sorted(Path("set").glob("*.jsonl")))) == 4


def test_an_export_that_is_interrupted_goes_on(
    export: Export, client: Client, fruit: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a disk that is full when the second part comes
    write = course.FORMATS["jsonl"].write

    def full(part: str, *rest: Any) -> None:
        if part == "part-000001":
            with open_target("set", client.objects).file(f"{part}.jsonl"):
                raise OSError(errno.ENOSPC, "No space left on device")
        write(part, *rest)

    with monkeypatch.context() as patch:
        patch.setitem(course.FORMATS, "jsonl", course.FORMATS["jsonl"].__class__(full, False))
        with pytest.raises(InvalidInput, match="No space left on device; what is complete stays"):
            export("set")
    assert sorted(path.name for path in Path("set").iterdir()) == [
        "export.json",
        "part-000000.jsonl",
    ]
    # When there is room again, then only the rest is written
    report = export("set")
    assert (report.kept, report.written) == (2, 1)


def test_results_that_are_denied_are_counted_and_added_later(
    export: Export, client: Client, fruit: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = client.store.batch("fruit")
    job = client.store.jobs_of(batch.id)[1]
    assert job.result is not None
    denied = client.objects.uri(job.result.outputs["image"].key)
    read = type(client.objects).read

    def deny(self: Any, uri: str, *, max_bytes: int) -> bytes:
        if uri == denied:
            raise AccessDenied(f"{uri} is refused")
        return read(self, uri, max_bytes=max_bytes)

    with monkeypatch.context() as patch:
        patch.setattr(type(client.objects), "read", deny)
        report = export("set", "files")
    assert (report.written, report.missing_count) == (2, 1)
    assert denied in report.missing[0]
    again = export("set", "files")
    assert (again.kept, again.written, again.missing_count) == (1, 2, 0)


def test_a_bucket_takes_an_export_too(export: Export, client: Client, fruit: None) -> None:
    to = client.objects.uri("sets/fruit")
    assert export(to, "webdataset").written == 3
    assert export(to, "webdataset").kept == 3
    names = [info.uri.removeprefix(to) for info in client.objects.under(to)]
    assert names == ["/export.json", "/part-000000.tar", "/part-000001.tar"]


def test_results_are_chosen_by_their_figures(
    edict: Edict, export: Export, finish: Finish, fruit: None, photo: Path
) -> None:
    edict("submit", "reconstruct", photo, "--from", "a photo", "--batch", "fruit")
    finish("fruit", png())
    assert export("all", "jsonl").written == 4
    assert export("some", "jsonl", "psnr>=20", "exact=true").written == 1
    assert export("none", "jsonl", "psnr>20").written == 0


def test_what_the_gate_flags_is_kept_apart_unless_it_is_asked_for(
    edict: Edict, client: Client, finish: Finish, fruit: None, photo: Path
) -> None:
    # Given a result with a PSNR of 20 among three that have none
    edict("submit", "reconstruct", photo, "--from", "a photo", "--batch", "fruit")
    finish("fruit", png())
    whole = ["export", "fruit", "--to", "set", "--format", "jsonl", "--json"]
    assert json.loads(edict(*whole).stdout)["written"] == 4
    # When a gate asks for more, then the part that held it is written anew
    gate = json.loads(edict("gate", "fruit", "--set", "psnr>=25", "--json").stdout)
    assert gate == {"gate": ["psnr>=25"], "flagged": 1}
    again = json.loads(edict(*whole).stdout)
    assert (again["kept"], again["written"], again["flagged"]) == (2, 1, 1)
    assert len(lines_of(*sorted(Path("set").glob("*.jsonl")))) == 3
    # And it goes where it is asked for
    edict("export", "fruit", "--to", "doubtful", "--format", "jsonl", "--flagged", "only")
    [line] = lines_of(*sorted(Path("doubtful").glob("*.jsonl")))
    assert (line["kind"], line["flagged"]) == ("reconstruction", True)
    both = edict("export", "fruit", "--to", "both", "--format", "jsonl", "--flagged", "with")
    assert "4 written" in both.stdout
    assert "1 flagged" in edict("gate", "fruit").stdout
    assert json.loads(edict("batches", "--json").stdout)[0]["flagged"] == 1
    assert edict("export", "fruit", "--to", "x", "--flagged", "some").exit_code == 2


def test_a_tenth_of_a_bucket_that_is_denied_costs_a_tenth(
    edict: Edict, client: Client, finish: Finish, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edict(*EDIT, photo, *(part for n in range(20) for part in ("--to", f"number {n}")))
    finish("fruit", png())
    jobs = client.store.jobs_of(client.store.batch("fruit").id)
    keys = [job.result.outputs["image"].key for job in jobs if job.result]
    denied = {client.objects.uri(key) for key in keys[::10]}
    read = type(client.objects).read

    def deny(self: Any, uri: str, *, max_bytes: int) -> bytes:
        if uri in denied:
            raise AccessDenied(f"{uri} is refused")
        return read(self, uri, max_bytes=max_bytes)

    with monkeypatch.context() as patch:
        patch.setattr(type(client.objects), "read", deny)
        done = edict("export", "fruit", "--to", "set")
    assert done.exit_code == 1
    assert "18 written" in done.stdout
    assert "2 results could not be read; run the same again to add them" in done.stderr
    again = edict("export", "fruit", "--to", "set")
    assert (again.exit_code, len(lines_of(Path("set/part-000000/metadata.jsonl")))) == (0, 20)


@pytest.mark.parametrize("where", ["psnr", "seconds>1", "psnr>=high", "psnr!=3"])
def test_conditions_that_are_none_are_refused(where: str) -> None:
    with pytest.raises(InvalidInput, match="where"):
        Condition.parse(where)


def test_another_export_is_not_mixed_in(export: Export, fruit: None) -> None:
    export("set", "jsonl")
    with pytest.raises(InvalidInput, match="holds another export"):
        export("set", "parquet")
    Path("other").mkdir()
    Path("other/export.json").write_text("[]")
    with pytest.raises(InvalidInput, match="none of ours"):
        export("other")
    with pytest.raises(InvalidInput, match="webdataset"):
        export("x", "csv")


def test_batches_are_listed_with_their_counts(edict: Edict, fruit: None) -> None:
    listed = json.loads(edict("batches", "--json").stdout)
    assert [each["name"] for each in listed] == ["fruit"]
    assert listed[0]["counts"]["succeeded"] == 3
    assert "fruit" in edict("batches").stdout


@pytest.mark.parametrize("form", ["files", "parquet"])
def test_a_part_whose_results_were_pruned_stays_and_what_came_late_is_kept(
    form: str, edict: Edict, finish: Finish, photo: Path, client: Client, export: Export
) -> None:
    submit = ["submit", "edit", "--from", "a photo", "--batch", "fruit", photo]
    edict(*submit, "--to", "limes")
    finish("fruit", png())
    edict(*submit, "--to", "figs")
    assert export("set", form).written == 1
    before = {path: path.read_bytes() for path in Path("set").rglob("*") if path.is_file()}
    client.store.set_retention(What.RESULTS, None)
    pruner = Pruner(client.store, client.objects, threading.Event(), source_rest=timedelta(0))
    assert pruner.run().results == 1
    finish("fruit", png(colour="red"))

    report = export("set", form)

    assert (report.written, report.kept, report.closed) == (0, 1, ["part-000000"])
    assert {path: path.read_bytes() for path in before} == before
    # Retention goes by what was exported, and this was not.
    assert pruner.run().results == 0
    assert export("other", form).written == 1


def test_a_job_of_another_version_hides_no_other_from_an_export(
    client: Client, fruit: None, export: Export
) -> None:
    strange = client.store.jobs_of(client.store.batch("fruit").id)[0]
    spec = {**strange.stored_spec, "of_tomorrow": 1}
    with client.store._engine.begin() as connection:
        connection.execute(update(jobs).where(jobs.c.id == strange.id).values(spec=spec))

    report = export("set")

    assert report.written > 0
    assert report.left_out >= 1
