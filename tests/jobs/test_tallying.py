"""Counts of batches from tallies, whatever changes the jobs."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import Engine, delete, select, update

from bench.bulk.queries import scans
from jobs.database import open_database
from jobs.filters import JobFilter
from jobs.keys import sha256
from jobs.states import State
from jobs.store import JobStore
from jobs.tables import batch_jobs, batch_tallies, batches, jobs
from tests.jobs.factories import RESULT, claim, edit, inversion


def counted(store: JobStore, batch_id: UUID) -> Counter[State]:
    """The long way: job by job."""
    return Counter(job.state for job in store.find(JobFilter(batch=batch_id)))


def test_a_batch_counts_what_is_done_to_its_jobs_by_whomever(
    store: JobStore, engine: Engine
) -> None:
    batch, other = (store.open_batch(name).id for name in ("one", "other"))
    [first, second, *_] = (
        each.job_id for each in store.submit(map(inversion, range(5)), batch_id=batch)
    )
    store.submit([inversion(0), inversion(9)], batch_id=other)
    store.take_due(9)
    store.finish(claim(store, first), RESULT)
    store.fail(claim(store, second), "bad", "bad")
    with engine.begin() as connection:
        # By hand, past the store.
        third = select(jobs.c.id).where(jobs.c.state == State.QUEUED).limit(1).scalar_subquery()
        connection.execute(update(jobs).where(jobs.c.id == third).values(state=State.CANCELLED))

    for each in (batch, other):
        assert +Counter(store.counts(each)) == counted(store, each)
    assert store.counts(batch)[State.CANCELLED] + store.counts(other)[State.CANCELLED] == 1
    assert store.failures_of(batch) == {"bad": 1}
    assert [each.counts[State.SUCCEEDED] for each in store.batches(9)] == [1, 1]


def test_an_error_that_is_tried_again_is_no_failure(store: JobStore) -> None:
    batch = store.open_batch("one").id
    [made] = store.submit([inversion(0)], batch_id=batch)
    store.take_due(1)
    store.postpone(claim(store, made.job_id), "away", "away", delay=0)

    assert store.failures_of(batch) == {}
    assert store.counts(batch)[State.PENDING] == 1


def test_what_is_removed_counts_no_more(store: JobStore, engine: Engine) -> None:
    batch, other = (store.open_batch(name).id for name in ("one", "other"))
    made = [each.job_id for each in store.submit(map(inversion, range(4)), batch_id=batch)]
    store.submit([inversion(0)], batch_id=other)
    with engine.begin() as connection:
        connection.execute(delete(jobs).where(jobs.c.id == made[0]))
        connection.execute(delete(batch_jobs).where(batch_jobs.c.job_id == made[1]))

    assert (store.counts(batch)[State.PENDING], store.counts(other)[State.PENDING]) == (2, 0)
    with engine.begin() as connection:
        connection.execute(delete(batches).where(batches.c.id == batch))
        left = list(connection.scalars(select(batch_tallies.c.batch_id).distinct()))
    assert batch not in left


def test_folding_changes_no_count_and_leaves_one_row_for_each(
    store: JobStore, engine: Engine
) -> None:
    batch = store.open_batch("one").id
    for image in range(6):
        store.submit([inversion(image)], batch_id=batch)
    store.take_due(4)
    before = store.counts(batch)

    store.fold_tallies()

    assert store.counts(batch) == before
    with engine.connect() as connection:
        shards = list(connection.scalars(select(batch_tallies.c.shard)))
    assert shards == [0] * len(shards)
    assert store.fold_tallies() == 0


def test_jobs_that_end_while_they_are_made_members_are_counted_once(store: JobStore) -> None:
    specs = [inversion(image) for image in range(30)]
    job_ids = [each.job_id for each in store.submit(specs)]
    store.take_due(30)
    claims = [claim(store, job_id) for job_id in job_ids]
    others = [store.open_batch().id for _ in range(3)]

    with ThreadPoolExecutor(6) as pool:
        joins = [
            pool.submit(store.submit_chunk, specs, batch_id=batch, digest=sha256(batch.bytes))
            for batch in others
        ]
        ends = [pool.submit(store.finish, each, RESULT) for each in claims]
        for each in [*joins, *ends]:
            each.result()

    for batch in others:
        assert +Counter(store.counts(batch)) == {State.SUCCEEDED: 30}


@pytest.fixture
def large(postgresql_url: str) -> Iterator[tuple[Engine, JobStore]]:
    """A batch that is large enough for the planner to care."""
    engine = open_database(postgresql_url)
    store = JobStore(engine)
    batch = store.open_batch("bench")
    for piece in range(6):
        specs = [edit(image, "a dog") for image in range(piece * 2_000, (piece + 1) * 2_000)]
        store.submit_chunk(specs, batch_id=batch.id, digest=sha256(bytes([piece])))
    store.look_at_tables()
    yield engine, store
    engine.dispose()


@pytest.mark.slow
def test_what_is_asked_all_day_reads_no_table_from_end_to_end(
    large: tuple[Engine, JobStore],
) -> None:
    found = scans(*large)

    assert set(found) == {"watch", "batches", "page", "announce", "claim", "finish"}
    big = ("jobs", "batch_jobs")
    through = {
        question: [line for line in lines if line.split(" (")[0] in {f"Seq Scan {t}" for t in big}]
        for question, lines in found.items()
    }
    assert not any(through.values()), through
    assert any("jobs (pk_jobs)" in line for line in found["claim"])
    assert not any("batch_jobs" in line for line in found["watch"])
