"""`edict reproduce` at the command line: what it refuses, and how."""

from pathlib import Path

import pytest

from jobs.keys import sha256
from jobs.result_files import Recipe, encode
from jobs.results import Output, Result
from jobs.specs import OutputOptions
from producer.client import Client
from tests.jobs.factories import edit
from tests.jobs.test_result_files import PICTURE
from tests.producer.conftest import Edict


@pytest.fixture
def result_file(tmp_path: Path) -> Path:
    latents = Output(key="inversions/a", sha256="ab" * 32, size=7)
    result = Result(outputs={"latents": latents}, model_revision="r1", fingerprint="f")
    path = tmp_path / "result.png"
    path.write_bytes(encode(PICTURE, Recipe.of(edit(), result, rows=2), OutputOptions()))
    return path


def test_a_file_without_a_recipe_is_refused_before_any_service_is_asked(
    edict: Edict, photo: Path
) -> None:
    done = edict("reproduce", photo)

    assert done.exit_code == 2
    assert "photo.png holds no recipe of ours" in done.stderr


def test_a_file_that_is_not_there_is_named(edict: Edict) -> None:
    done = edict("reproduce", "none.png")

    assert done.exit_code == 2
    assert "none.png cannot be read" in done.stderr


def test_a_source_that_is_not_there_is_named_with_the_remedy(
    edict: Edict, services: object, result_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDICT_SOURCE_BUCKETS", "photos")

    done = edict("reproduce", result_file)

    assert done.exit_code == 2
    assert "s3://photos/0.png is gone; give the original with --source" in done.stderr


def test_results_bring_the_recipes_along(
    edict: Edict, client: Client, photo: Path, tmp_path: Path
) -> None:
    edict("submit", "edit", photo, "--from", "a", "--to", "b c", "--batch", "b")
    [job] = client.store.jobs_of(client.store.batch("b").id)
    [claim] = client.store.claim([job.id], "test", lease=30)
    outputs = {}
    for role, name, data in (("image", "x.webp", b"pixels"), ("sidecar", "x.json", b"{}")):
        client.objects.put(name, data, "text/plain")
        outputs[role] = Output(key=name, sha256=sha256(data), size=len(data))
    client.store.finish(claim, Result(outputs=outputs, model_revision="r", fingerprint="f"))

    done = edict("results", "b", "--out", "out")

    assert "1 downloaded" in done.stdout
    [beside] = (tmp_path / "out").glob("*.json")
    assert beside.read_text() == "{}"
    assert beside.with_suffix(".webp").read_bytes() == b"pixels"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "gif"], "format: Input should be 'png', 'jpeg' or 'webp' (got 'gif')"),
        (["--quality", "80"], "quality 80 with format png, which loses nothing"),
    ],
)
def test_wrong_formats_are_refused(
    edict: Edict, services: object, photo: Path, options: list[str], words: str
) -> None:
    done = edict("submit", "edit", photo, "--from", "a", "--to", "b", *options)

    assert done.exit_code == 2
    assert words in done.stderr
