"""The database set back to an earlier moment, as the runbook has it (docs/operations.md)."""

import io
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from jobs.errors import NotFound
from jobs.records import Job
from jobs.settings import Settings
from jobs.states import State
from tests.worker.conftest import Bench, picture


@pytest.fixture
def database(settings: Settings) -> Path:
    return Path(settings.database_url.get_secret_value().removeprefix("sqlite:///"))


def copy(database: Path, to: Path) -> None:
    """Copy a whole database, whoever uses it."""
    with closing(sqlite3.connect(database)) as here, closing(sqlite3.connect(to)) as there:
        here.backup(there)


def results(bench: Bench, kind: str) -> set[str]:
    """The keys of all results of a kind that are in the bucket."""
    found = bench.objects.under(bench.objects.uri("results/"))
    return {each.uri for each in found if each.uri.endswith(kind)}


def pixels(bench: Bench, job: Job) -> bytes:
    return Image.open(io.BytesIO(bench.objects.get(job.result.outputs["image"].key))).tobytes()


def test_what_a_snapshot_has_not_seen_is_made_again_and_comes_out_the_same(
    bench: Bench, database: Path, tmp_path: Path
) -> None:
    # Given a snapshot after one job and while another waits
    known = bench.edit("a dog")
    [ended] = bench.run(known)
    [waiting] = bench.queued(bench.edit("a horse"))
    snapshot = tmp_path / "snapshot.db"
    copy(database, snapshot)
    # And what goes on after it
    bench.runner.run([waiting])
    late = bench.edit(source=bench.source(picture(1), "b.png"))
    [lost] = bench.run(late)
    images = results(bench, ".png")
    assert len(images) == 3

    # When the snapshot takes the database's place
    copy(snapshot, database)

    # Then what had ended is known, and what waited runs again, to the very same result
    assert bench.run(known) == [ended]
    assert bench.store.job(waiting).state == State.QUEUED
    bench.runner.run([waiting])
    assert bench.store.job(waiting).state == State.SUCCEEDED
    assert results(bench, ".png") == images
    # And what came later is unknown, and is the same when it is submitted again
    with pytest.raises(NotFound):
        bench.store.job(lost.id)
    [again] = bench.run(late)
    assert pixels(bench, again) == pixels(bench, lost)
    assert len(results(bench, ".png") - images) == 1
