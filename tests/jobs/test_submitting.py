"""Submissions and batches: what producers ask of the store."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, update

from jobs.errors import InvalidInput, NotFound
from jobs.filters import JobFilter
from jobs.ids import new_id
from jobs.records import Batch
from jobs.states import LIVE, State
from jobs.store import SUBMIT_CHUNK, JobStore
from jobs.tables import inversions, jobs
from tests.jobs.factories import (
    RESULT,
    Clock,
    claim,
    edit,
    inversion,
    queue,
    source,
    states,
    submit,
)


def test_a_submitted_job_is_pending_and_shows_its_spec(store: JobStore, clock: Clock) -> None:
    spec = edit(prompt="ein Hund, 犬 🐕", base_prompt="a cat")

    [submission] = store.submit([spec], priority=7)

    job = store.job(submission.job_id)
    assert submission.created
    assert (job.spec, job.model, job.priority) == (spec, "demo", 7)
    assert (job.state, job.attempts, job.created_at) == (State.PENDING, 0, clock.now)
    assert job.result is job.progress is job.worker is job.finished_at is None


def test_the_same_spec_is_the_same_job(store: JobStore) -> None:
    [first] = store.submit([inversion()])

    [second] = store.submit([inversion()])

    assert (second.job_id, second.created) == (first.job_id, False)
    assert sum(store.counts().values()) == 1


def test_duplicates_inside_one_submission_are_one_job(store: JobStore) -> None:
    submissions = store.submit([inversion(1), inversion(2), inversion(1)])

    assert [each.created for each in submissions] == [True, True, False]
    assert submissions[0].job_id == submissions[2].job_id != submissions[1].job_id


def test_force_makes_a_new_job_each_time(store: JobStore) -> None:
    [known] = store.submit([inversion()])

    forced = store.submit([inversion(), inversion()], force=True)

    assert all(each.created for each in forced)
    assert len({known.job_id, *(each.job_id for each in forced)}) == 3


def test_submissions_over_several_transactions_keep_their_order(store: JobStore) -> None:
    images = [*range(1_200), 0, 1_199]
    batch = store.open_batch("many")

    submissions = store.submit(map(inversion, images), batch_id=batch.id)

    assert len(images) > 2 * SUBMIT_CHUNK
    assert [each.created for each in submissions] == [True] * 1_200 + [False] * 2
    listed = store.jobs_of(batch.id)
    assert [int(job.spec.source.sha256, 16) for job in listed] == list(range(1_200))
    assert [job.id for job in listed] == [each.job_id for each in submissions[:1_200]]


def test_an_empty_submission_is_nothing(store: JobStore) -> None:
    assert store.submit([], batch_id=store.open_batch().id) == []


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_submitting_again_revives_what_failed_or_was_cancelled(store: JobStore, end: str) -> None:
    claimed = claim(store)
    if end == "failed":
        store.fail(claimed, "bad_image", "not an image")
    else:
        store.cancel([claimed.job_id])

    [again] = store.submit([inversion()])

    job = store.job(again.job_id)
    assert (again.created, again.state) == (False, State.PENDING)
    assert (job.id, job.attempts, job.error_code) == (claimed.job_id, 0, None)
    assert job.finished_at is job.started_at is job.progress is job.error_message is None


@pytest.mark.parametrize("end", ["failed", "succeeded"])
def test_a_job_whose_image_lies_elsewhere_now_is_revived_with_the_new_place(
    store: JobStore, end: str
) -> None:
    claimed = claim(store)
    if end == "failed":
        store.fail(claimed, "source_refused", "it is not there")
    else:
        store.finish(claimed, RESULT)
    moved = inversion().model_copy(update={"source": source(0, "s3://elsewhere/0.png")})

    [again] = store.submit([moved])

    assert again.job_id == claimed.job_id
    uri = store.job(again.job_id).spec.source.uri
    assert uri == ("s3://elsewhere/0.png" if end == "failed" else claimed.spec.source.uri)


def test_a_job_may_be_in_several_batches(store: JobStore) -> None:
    one, two = store.open_batch("one"), store.open_batch("two")
    [first] = store.submit([inversion()], batch_id=one.id)

    store.submit([inversion(), inversion(1)], batch_id=two.id)
    store.submit([inversion()], batch_id=two.id)

    assert [job.id for job in store.jobs_of(one.id)] == [first.job_id]
    assert store.counts(one.id)[State.PENDING] == 1
    assert store.counts(two.id)[State.PENDING] == 2
    assert store.counts()[State.PENDING] == 2


def test_submissions_that_race_make_each_job_once(store: JobStore) -> None:
    specs = [inversion(image) for image in range(60)]
    orders = [specs, specs[::-1], specs[30:] + specs[:30], specs[::2] + specs[1::2]]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(store.submit, orders))

    created = [each.job_id for submissions in results for each in submissions if each.created]
    assert len(created) == len(set(created)) == 60
    assert {each.job_id for submissions in results for each in submissions} == set(created)


def test_submissions_and_retries_of_failed_jobs_do_not_wait_in_a_circle(
    store: JobStore, engine: Engine
) -> None:
    """Both forgive the inversions of the jobs that they give a new life."""
    specs = [inversion(image) for image in range(40)]
    job_ids = [each.job_id for each in store.submit(specs)]
    for spec in specs:
        digest = spec.inversion_digest()
        store.claim_inversion(f"inversions/{digest}", digest, "w", lease=1, alone=True)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            with engine.begin() as connection:
                connection.execute(update(jobs).values(state=State.FAILED))
                connection.execute(update(inversions).values(losses=1))
            calls = [
                pool.submit(store.submit, specs),
                pool.submit(store.retry, job_ids[::-1]),
                pool.submit(store.submit, specs[::-1]),
                pool.submit(store.retry_where, JobFilter()),
            ]
            for call in calls:
                call.result(60)

    assert store.counts()[State.PENDING] == 40


def test_a_batch_is_found_by_name_and_by_id(store: JobStore) -> None:
    named, nameless = store.open_batch("holiday"), store.open_batch()

    assert store.batch("holiday") == store.batch(str(named.id)) == named
    assert store.batch(str(nameless.id)) == nameless
    assert store.open_batch("holiday") == named
    assert store.open_batch() != nameless


def test_an_id_goes_before_a_name_that_looks_like_it(store: JobStore) -> None:
    wanted = store.open_batch()
    decoy = store.open_batch(str(wanted.id))

    assert store.batch(str(wanted.id)) == wanted
    assert store.batch(str(decoy.id)) == decoy


def test_batches_opened_at_once_under_one_name_are_one(store: JobStore) -> None:
    with ThreadPoolExecutor(4) as pool:
        opened: list[Batch] = list(pool.map(store.open_batch, ["same"] * 8))

    assert len(set(opened)) == 1


@pytest.mark.parametrize("name", ["", "x" * 201, "a\0b", "a\nb", "\ud800"])
def test_a_batch_name_that_cannot_be_shown_is_refused(store: JobStore, name: str) -> None:
    with pytest.raises(InvalidInput, match=r"batch\.name: must be 1 to 200 printable"):
        store.open_batch(name)


def test_what_does_not_exist_is_named(store: JobStore) -> None:
    missing = new_id()

    with pytest.raises(NotFound, match=str(missing)):
        store.job(missing)
    with pytest.raises(NotFound, match="'nothing'"):
        store.batch("nothing")


def test_a_cancelled_batch_has_no_live_jobs(store: JobStore) -> None:
    batch = store.open_batch()
    job_ids = submit(store, 3, batch_id=batch.id)
    assert any(store.counts(batch.id)[state] for state in LIVE)

    store.cancel(job_ids)

    assert not any(store.counts(batch.id)[state] for state in LIVE)
    assert not any(store.counts()[state] for state in LIVE)
    assert store.jobs_of(batch.id, [State.PENDING]) == []
    assert len(store.jobs_of(batch.id, [State.CANCELLED])) == 3


def test_jobs_are_cancelled_in_every_live_state_and_in_no_other(store: JobStore) -> None:
    job_ids = [*queue(store, 5), *submit(store, 6)[5:]]
    done, failed, running = (claim(store, job_id) for job_id in job_ids[:3])
    store.finish(done, RESULT)
    store.fail(failed, "bad", "bad")

    cancelled = store.cancel(job_ids)

    assert cancelled == 4
    assert states(store, job_ids) == ["succeeded", "failed", *["cancelled"] * 4]
    assert store.job(running.job_id).finished_at is not None
    assert store.cancel(job_ids) == 0


def test_retry_gives_a_new_life_to_failed_and_cancelled_jobs_only(store: JobStore) -> None:
    job_ids = queue(store, 4)
    store.fail(claim(store, job_ids[0]), "bad", "bad")
    store.cancel([job_ids[1]])
    store.finish(claim(store, job_ids[2]), RESULT)

    assert store.retry(job_ids) == 2

    assert states(store, job_ids) == ["pending", "pending", "succeeded", "queued"]
    assert store.retry(job_ids) == 0


def test_more_ids_than_a_statement_takes_are_cancelled(store: JobStore) -> None:
    job_ids = submit(store, 2)
    too_many_for_postgresql = 66_000
    many = [job_ids[0], *(new_id() for _ in range(too_many_for_postgresql)), job_ids[1]]

    assert store.cancel(many) == 2
