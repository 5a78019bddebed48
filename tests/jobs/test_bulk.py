"""Chunks of manifests: what the store makes of thousands of specs at once."""

from collections.abc import Iterator
from typing import Any

import pytest

from jobs.ids import new_id
from jobs.keys import sha256
from jobs.specs import EditSpec
from jobs.states import State
from jobs.store import JobStore
from jobs.store.sourcing import KnownSource
from tests.jobs.factories import RESULT, claim, edit, inversion, source


def chunk(count: int, first: int = 0) -> list[EditSpec]:
    return [
        edit(image, f"a dog, {prompt}") for image in range(first, first + count) for prompt in "ab"
    ]


def digests() -> Iterator[str]:
    while True:
        yield sha256(new_id().bytes)


def load(store: JobStore, specs: list[Any], digest: str = "a" * 64, **options: Any) -> Any:
    batch = store.open_batch("bulk")
    return store.submit_chunk(specs, batch_id=batch.id, digest=digest, **options)


def test_a_chunk_makes_the_jobs_that_a_submission_makes(store: JobStore) -> None:
    specs = [
        *chunk(3),
        inversion(7),
        edit(prompt='tab\t "quoted" \\n backslash \\ 犬', mask="auto"),
    ]

    loaded = load(store, specs, priority=5)

    listed = store.jobs_of(store.batch("bulk").id)
    assert (loaded.created, loaded.known) == (8, 0)
    assert [job.spec for job in listed] == specs
    assert {(job.state, job.priority, job.model) for job in listed} == {("pending", 5, "demo")}
    assert not any(each.created for each in store.submit(specs))


def test_what_one_by_one_submission_made_is_known(store: JobStore) -> None:
    store.submit(chunk(2))

    loaded = load(store, chunk(3))

    assert (loaded.created, loaded.known) == (2, 4)
    assert sum(store.counts(store.batch("bulk").id).values()) == 6
    assert sum(store.counts().values()) == 6


def test_duplicates_within_a_chunk_are_one_job(store: JobStore) -> None:
    loaded = load(store, [*chunk(2), *chunk(2)])

    assert (loaded.created, loaded.known) == (4, 4)
    assert sum(store.counts(store.batch("bulk").id).values()) == 4


@pytest.mark.parametrize("known", [0, 1], ids=["all new", "one known"])
def test_jobs_of_a_paused_batch_wait(store: JobStore, known: int) -> None:
    store.submit(chunk(known))
    store.pause_batch(store.open_batch("bulk").id)

    load(store, chunk(3))

    assert sum(store.counts(store.batch("bulk").id).values()) == 6
    assert store.take_due(10) == []
    store.resume_batch(store.batch("bulk").id)
    assert len(store.take_due(10)) == 6


def test_force_makes_new_jobs(store: JobStore) -> None:
    load(store, chunk(2))

    assert load(store, chunk(2), force=True).created == 4
    assert sum(store.counts().values()) == 8


def test_failed_and_cancelled_jobs_live_again_and_finished_ones_stay(store: JobStore) -> None:
    failed, done, cancelled = (each.job_id for each in store.submit(map(inversion, range(3))))
    store.take_due(2)
    store.fail(claim(store, failed), "source_refused", "not there")
    store.finish(claim(store, done), RESULT)
    store.cancel([cancelled])
    moved = inversion(0).model_copy(update={"source": source(0, "s3://elsewhere/0.png")})

    loaded = load(store, [moved, inversion(1), inversion(2)])

    assert (loaded.created, loaded.known) == (0, 3)
    states = [store.job(job_id).state for job_id in (failed, done, cancelled)]
    assert states == ["pending", "succeeded", "pending"]
    assert store.job(failed).spec.source.uri == "s3://elsewhere/0.png"


def test_a_chunk_is_in_only_with_its_jobs(store: JobStore) -> None:
    batch, marker = store.open_batch("bulk"), "c" * 64
    assert store.chunks_in(batch.id, [marker]) == frozenset()

    load(store, chunk(1), marker)

    assert store.chunks_in(batch.id, [marker, "d" * 64]) == {marker}
    assert not store.forget_lost_chunks(batch.id)
    assert store.chunks_in(store.open_batch("other").id, [marker]) == frozenset()


def test_markers_are_dropped_when_jobs_were_removed(store: JobStore, engine: Any) -> None:
    from jobs.tables import jobs

    load(store, chunk(2), "c" * 64)
    batch = store.batch("bulk")
    with engine.begin() as connection:
        connection.execute(jobs.delete().where(jobs.c.id == store.jobs_of(batch.id)[0].id))

    assert store.forget_lost_chunks(batch.id)
    assert store.chunks_in(batch.id, ["c" * 64]) == frozenset()


def test_retrying_a_batch_leaves_others_alone(store: JobStore) -> None:
    load(store, [inversion(0)])
    [other] = store.submit([inversion(1)])
    store.cancel([other.job_id, store.jobs_of(store.batch("bulk").id)[0].id])

    assert store.retry_ended(store.batch("bulk").id) == 1
    assert store.job(other.job_id).state == State.CANCELLED


def test_states_are_found_by_digest(store: JobStore) -> None:
    store.submit([inversion(0)])

    found = store.states_of([inversion(0).digest(), inversion(1).digest()])

    assert found == {inversion(0).digest(): State.PENDING}


def test_sources_are_remembered_by_place_and_the_latest_counts(store: JobStore) -> None:
    one, two = KnownSource("etag-1", source(1)), KnownSource("etag-2", source(2))

    store.remember_sources({"s3://photos/1.png": one, "s3://photos/2.png": one})
    store.remember_sources({"s3://photos/2.png": two})

    found = store.known_sources(["s3://photos/1.png", "s3://photos/2.png", "s3://photos/3.png"])
    assert found == {"s3://photos/1.png": one, "s3://photos/2.png": two}
