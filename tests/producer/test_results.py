"""`edict results`: images into a folder, and never out of it."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.ids import new_id
from jobs.records import Job
from jobs.specs import EditSpec, ModelRef, Source
from jobs.states import State
from producer.client import Client
from producer.downloads import file_name
from tests.producer.conftest import Edict, Finish, png


@pytest.fixture
def fruit(edict: Edict, finish: Finish, photo: Path) -> str:
    """A finished batch of two edits, one of them under a nasty prompt."""
    prompts = ["--to", "blue lemons", "--to", "../../../etc/passwd\n<b>"]
    submit = ["submit", "edit", str(photo), "--from", "a photo", *prompts, "--batch", "fruit"]
    assert edict(*submit).exit_code == 0
    finish("fruit", png(colour="navy"))
    return "fruit"


def test_images_get_sensible_names_and_a_sidecar(
    edict: Edict, fruit: str, client: Client, tmp_path: Path
) -> None:
    done = edict("results", fruit, "--to", "out")
    assert done.exit_code == 0
    jobs = client.store.jobs_of(client.store.batch(fruit).id)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [
        f"0001-blue-lemons-{jobs[0].id.hex[-8:]}.png",
        f"0002-etc-passwd-b-{jobs[1].id.hex[-8:]}.png",
        "results.jsonl",
    ]
    assert (tmp_path / "out" / names[0]).read_bytes() == png(colour="navy")
    lines = [json.loads(line) for line in (tmp_path / "out/results.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == names[:2]
    assert lines[1]["edit_prompt"] == "../../../etc/passwd\n<b>"


def test_what_is_there_is_kept_and_what_is_damaged_is_fetched_again(
    edict: Edict, fruit: str, tmp_path: Path
) -> None:
    edict("results", fruit, "--to", "out")
    first = min((tmp_path / "out").glob("*.png"))
    assert "0 downloaded, 2 there before" in edict("results", fruit, "--to", "out").stdout
    first.write_bytes(b"half")
    assert "1 downloaded, 1 there before" in edict("results", fruit, "--to", "out").stdout
    assert first.read_bytes() == png(colour="navy")


def test_a_link_in_the_folder_is_replaced_and_not_followed(
    edict: Edict, fruit: str, client: Client, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("precious")
    (tmp_path / "out").mkdir()
    job = client.store.jobs_of(client.store.batch(fruit).id)[0]
    link = tmp_path / "out" / f"0001-blue-lemons-{job.id.hex[-8:]}.png"
    link.symlink_to(outside)
    (tmp_path / "out" / "results.jsonl").symlink_to(outside)
    assert edict("results", fruit, "--to", "out").exit_code == 0
    assert outside.read_text() == "precious"
    assert not link.is_symlink()


def test_jobs_that_have_not_succeeded_are_reported(
    edict: Edict, services: object, photo: Path
) -> None:
    edict("submit", "edit", photo, "--from", "a", "--to", "b", "--batch", "late")
    done = edict("results", "late", "--to", "out")
    assert done.exit_code == 1
    assert "1 of 1 jobs have not succeeded" in done.stderr


def test_a_file_where_the_folder_should_be_is_said_so(
    edict: Edict, fruit: str, photo: Path
) -> None:
    done = edict("results", fruit, "--to", photo)
    assert done.exit_code == 2
    assert "cannot be written" in done.stderr


@given(st.text(min_size=1).filter(str.strip), st.text())
def test_no_prompt_and_no_key_can_name_a_file_elsewhere(prompt: str, key: str) -> None:
    spec = EditSpec.model_construct(
        source=Source(uri="s3://b/k", sha256="0" * 64), model=ModelRef(name="m"), edit_prompt=prompt
    )
    nothing = dict.fromkeys(Job.__dataclass_fields__)
    job = Job(**{**nothing, "id": new_id(), "state": State.SUCCEEDED})
    vars(job)["spec"] = spec
    name = file_name(job, "0001", key)
    assert Path(name).name == name
    assert name.isascii()
    assert len(name) < 200
    assert not name.startswith(".")
