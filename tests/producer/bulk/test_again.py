"""The same manifest again: only what is new, what was mended, what is lost, what was broken off."""

import json
import os
import signal
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from jobs.errors import AccessDenied
from jobs.keys import sha256
from jobs.retention import What
from jobs.settings import Settings
from jobs.states import State
from producer.client import Client
from producer.retention import Pruner
from tests.pipeline import edict as running
from tests.pipeline import environment_of, eventually
from tests.producer.bulk.conftest import Submit, photographs, prompts, write
from tests.producer.conftest import Edict, Finish, png
from worker.failures import SourceRefused

ROOT = Path(__file__).parents[3]


def test_a_manifest_becomes_a_batch_and_again_nothing_is_new(
    submit: Submit, client: Client, tmp_path: Path
) -> None:
    path = write(tmp_path / "m.jsonl", photographs(3))
    first, again = submit(path), submit(path)
    assert (first.created, first.known, first.rows, first.passed_over) == (6, 0, 3, 0)
    assert (again.created, again.known, again.passed_over) == (0, 0, 3)
    assert prompts(client) == ["a cat", "a dog"] * 3
    assert client.store.counts()[State.PENDING] == 6


def test_only_what_is_new_or_changed_is_submitted(
    submit: Submit, client: Client, tmp_path: Path
) -> None:
    rows = photographs(3)
    submit(write(tmp_path / "m.jsonl", rows))
    Path("1.png").write_bytes(png((9, 8), "red"))
    rows[2]["edits"].append("a fox")
    later = submit(write(tmp_path / "m.jsonl", rows))
    # Both edits of the changed image, and the new prompt.
    assert (later.created, later.known) == (3, 4)
    assert sum(client.store.counts().values()) == 9


def test_an_image_that_was_pruned_is_uploaded_again(
    submit: Submit, client: Client, finish: Finish, tmp_path: Path
) -> None:
    path = write(tmp_path / "m.jsonl", photographs(1))
    submit(path)
    client.store.take_due(2)
    finish("bulk", png())
    client.store.set_retention(What.ROWS, 1e-9)
    pruner = Pruner(client.store, client.objects, threading.Event(), source_rest=timedelta(0))
    assert [pruner.run().rows, pruner.run().rows] == [2, 0]

    submit(path)

    jobs = client.store.jobs_of(client.store.batch("bulk").id)
    assert [job.state for job in jobs] == [State.PENDING] * 2
    assert all(client.objects.look(job.spec.source.uri) for job in jobs)


def test_refused_rows_are_mended_and_submitted_again(
    submit: Submit, client: Client, tmp_path: Path
) -> None:
    rows: list[dict[str, Any]] = photographs(2)
    rows.append({"image": "late.png", "base_prompt": "x", "edits": ["a cat"]})
    path = write(tmp_path / "m.jsonl", rows)
    report = submit(path, skip_invalid=True)
    assert (report.submitted, report.created, report.refused) == (True, 4, 1)
    refused = [json.loads(line) for line in Path("rejects.jsonl").read_text().splitlines()]
    assert refused[0]["image"] == "late.png"
    assert refused[0]["_row"] == 3
    # When the row is mended, the rejects are a manifest, which stays as it is if another is wrong.
    Path("late.png").write_bytes(png())
    mended = Path("rejects.jsonl").read_text()
    Path("rejects.jsonl").write_text(mended + '{"image": "later.png", "edit_prompt": "x"}\n')
    again = submit("rejects.jsonl")
    assert (again.created, again.refused, again.rejects) == (0, 1, Path("rejects-2.jsonl"))
    assert Path("rejects.jsonl").read_text().startswith(mended)
    Path("rejects.jsonl").write_text(mended)
    assert submit("rejects.jsonl").created == 1
    assert submit(path).created == 0
    assert len(prompts(client)) == 5


def test_force_makes_new_jobs(submit: Submit, client: Client, tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", photographs(1))
    submit(path)
    assert submit(path, force=True).created == 2
    assert sum(client.store.counts().values()) == 4


def test_failed_jobs_of_rows_that_are_in_already_are_tried_again(
    submit: Submit, client: Client, tmp_path: Path
) -> None:
    path = write(tmp_path / "m.jsonl", photographs(1))
    submit(path)
    job = client.store.jobs_of(client.store.batch("bulk").id)[0]
    client.store.cancel([job.id])
    assert submit(path).revived == 1
    assert client.store.job(job.id).state == State.PENDING


def lose_image(client: Client, number: int) -> list[UUID]:
    """Take an image of the batch out of the bucket, and fail its jobs as a worker does."""
    client.store.take_due(100)
    all_jobs = client.store.jobs_of(client.store.batch("bulk").id)
    uris = list(dict.fromkeys(job.spec.source.uri for job in all_jobs))
    client.objects.delete(client.objects.locate(uris[number])[1])
    failed = [job.id for job in all_jobs if job.spec.source.uri == uris[number]]
    for claim in client.store.claim(failed, "w1", lease=30):
        client.store.fail(claim, SourceRefused.code, f"{uris[number]} does not exist")
    return failed


@pytest.mark.parametrize("skip_invalid", [False, True])
def test_an_image_that_vanished_is_uploaded_again_before_its_jobs_are_tried_again(
    submit: Submit, client: Client, tmp_path: Path, skip_invalid: bool
) -> None:
    # Given a batch whose second image vanished, so that its two jobs failed
    path = write(tmp_path / "m.jsonl", photographs(3))
    submit(path)
    failed = lose_image(client, 1)
    assert [client.store.job(each).state for each in failed] == [State.FAILED] * 2

    # When the same manifest is submitted again
    again = submit(path, skip_invalid=skip_invalid)

    # Then they wait, and the image is there
    jobs = [client.store.job(each) for each in failed]
    assert [job.state for job in jobs] == [State.PENDING] * 2
    assert all(client.objects.look(job.spec.source.uri) for job in jobs)
    assert (again.created, again.restored) == (0, 1)
    assert submit(path).restored == 0


def test_an_image_that_vanished_here_as_well_is_refused_by_its_row(
    submit: Submit, client: Client, tmp_path: Path
) -> None:
    path = write(tmp_path / "m.jsonl", photographs(2))
    submit(path)
    lose_image(client, 0)
    Path("0.png").unlink()

    again = submit(path)

    assert not again.submitted
    assert [(each.row.number, each.field) for each in again.first_refused] == [(1, "image")]


def test_a_bucket_that_denies_one_image_in_ten_refuses_those_rows_and_takes_them_later(
    submit: Submit, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    for n in range(20):
        client.objects.put(f"in/{n}.png", png((8 + n, 8)), "image/png")
        rows.append({"image": client.objects.uri(f"in/{n}.png"), "edits": ["a cat"]})
    path = write(tmp_path / "m.jsonl", rows)
    look = type(client.objects).look

    def deny(self: Any, uri: str) -> Any:
        if uri.endswith("3.png"):
            raise AccessDenied(f"{uri} is refused")
        return look(self, uri)

    with monkeypatch.context() as patch:
        patch.setattr(type(client.objects), "look", deny)
        assert not submit(path).submitted
        assert not any(client.store.counts().values())
        some = submit(path, skip_invalid=True)
    assert (some.created, some.refused) == (18, 2)
    assert {each.row.number for each in some.first_refused} == {4, 14}
    later = submit(path)
    assert (later.created, later.refused) == (2, 0)
    assert sum(client.store.counts().values()) == 20


@pytest.mark.slow
def test_a_submission_that_is_killed_goes_on_where_it_was(
    services: Settings, client: Client, edict: Edict, tmp_path: Path
) -> None:
    uri = client.objects.uri("photos")
    rows = [
        {"image": f"{uri}/{n}.png", "sha256": sha256(str(n).encode()), "edits": ["a cat", "a dog"]}
        for n in range(4_000)
    ]
    path = write(tmp_path / "m.jsonl", rows)
    environment = {**environment_of(services), "PYTHONPATH": str(ROOT)}
    log = tmp_path / "bulk.log"
    child = running("bulk", str(path), "--name", "bulk", environment=environment, log=log)
    # Given a process that is killed after its first chunks
    with child:
        eventually(lambda: any(client.store.counts().values()))
        os.kill(child.pid, signal.SIGKILL)
        child.wait(10)
    before = sum(client.store.counts().values())
    # When the same is submitted again, then what was committed is passed over
    report = json.loads(edict("bulk", path, "--name", "bulk", "--json").stdout)
    assert 0 < before <= 8_000
    assert report["passed_over"] == before / 2
    assert (report["created"], report["known"]) == (8_000 - before, 0)
    assert sum(client.store.counts(client.store.batch("bulk").id).values()) == 8_000
