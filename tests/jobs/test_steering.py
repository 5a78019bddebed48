"""Jobs by what they are: looked at, cancelled, retried."""

import pytest
from sqlalchemy import Engine, update

from jobs.errors import InvalidInput
from jobs.filters import JobFilter
from jobs.specs import ModelRef
from jobs.states import State
from jobs.store import JobStore
from jobs.tables import jobs
from tests.jobs.factories import RESULT, Clock, claim, edit, inversion, queue, states, submit

FAILED = JobFilter(states=(State.FAILED,))


def test_each_field_of_a_filter_narrows_it_down(store: JobStore) -> None:
    batch = store.open_batch().id
    specs = [
        inversion(0, base_prompt="A Photo of Lemons"),
        edit(0, "100% limes"),
        edit(1, "100 limes", model=ModelRef(name="sd", revision="r1")),
        edit(2, "a dog", model=ModelRef(name="sd2")),
    ]
    ids = [each.job_id for each in store.submit(specs[:3], batch_id=batch)]
    ids += [each.job_id for each in store.submit(specs[3:])]
    store.cancel(ids[:1])

    def found(**fields: object) -> list[int]:
        which = JobFilter(**fields)  # type: ignore[arg-type]
        listed = [ids.index(job.id) for job in store.find(which)]
        assert store.count(which) == len(listed)
        return listed

    assert found() == [0, 1, 2, 3]
    assert found(batch=batch) == [0, 1, 2]
    assert found(states=(State.CANCELLED,)) == [0]
    assert found(kind="edit") == [1, 2, 3]
    assert found(model="sd") == [2]
    assert found(model="sd@r1") == [2]
    assert found(model="s_") == []
    assert found(prompt="photo of lemons") == [0]
    assert found(prompt="100%") == [1]
    assert found(prompt="limes", kind="edit", model="sd") == [2]
    assert found(code="bad") == []


def test_all_that_a_filter_means_is_cancelled_in_pieces(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.store.steering.STEER_CHUNK", 2)
    batch = store.open_batch().id
    job_ids = queue(store, 5, batch_id=batch)
    store.finish(claim(store, job_ids[0]), RESULT)
    [other] = [each.job_id for each in store.submit([inversion(9)])]

    assert store.cancel_where(JobFilter(batch=batch)) == 4

    assert states(store, [*job_ids, other]) == ["succeeded", *["cancelled"] * 4, "pending"]
    assert store.cancel_where(JobFilter(batch=batch)) == 0


def test_only_dead_letters_of_one_code_are_retried(store: JobStore) -> None:
    job_ids = queue(store, 4)
    for job_id, code in zip(job_ids, ["storage", "bad_image", "storage"], strict=False):
        store.fail(claim(store, job_id), code, "no")
    store.cancel(job_ids[3:])

    assert store.codes(FAILED) == {"storage": 2, "bad_image": 1}
    assert store.retry_where(JobFilter(code="storage")) == 2

    assert states(store, job_ids) == ["pending", "failed", "pending", "cancelled"]
    assert store.retry_where(JobFilter(states=(State.FAILED,))) == 1
    assert store.retry_where(JobFilter(states=(State.CANCELLED,))) == 1
    assert store.retry_where(JobFilter(states=(State.SUCCEEDED, State.PENDING))) == 0


def test_dead_letters_come_with_the_last_to_fail_first(store: JobStore, clock: Clock) -> None:
    job_ids = queue(store, 3)
    for job_id in (job_ids[1], job_ids[0], job_ids[2]):
        clock.tick(1)
        store.fail(claim(store, job_id), "bad", "bad")

    listed = store.find(FAILED, limit=2, newest_end_first=True)

    assert [job.id for job in listed] == [job_ids[2], job_ids[0]]


def test_a_spec_of_another_version_is_shown_as_such_and_hides_no_other(
    store: JobStore, engine: Engine
) -> None:
    batch = store.open_batch("fruit")
    strange, good = submit(store, 2, batch_id=batch.id)
    with engine.begin() as connection:
        wish = {"kind": "novel", "version": 7}
        connection.execute(update(jobs).where(jobs.c.id == strange).values(spec=wish))

    [shown, other] = store.jobs_of(batch.id)

    assert (shown.id, shown.stored_spec) == (strange, {"kind": "novel", "version": 7})
    assert shown.unreadable
    assert "another version of edict" in shown.unreadable
    with pytest.raises(InvalidInput, match="novel"):
        _ = shown.spec
    assert (other.id, other.unreadable) == (good, None)
    assert other.spec == inversion(1)


def test_a_result_of_another_version_is_shown_as_such(store: JobStore, engine: Engine) -> None:
    held = claim(store)
    store.finish(held, RESULT)
    assert store.job(held.job_id).unreadable is None
    with engine.begin() as connection:
        connection.execute(update(jobs).values(result={"novel": 1}))

    assert "another version of edict" in str(store.job(held.job_id).unreadable)


def test_a_job_names_its_batches(store: JobStore) -> None:
    one, two = store.open_batch("one"), store.open_batch("two")
    [job_id] = submit(store, 1, batch_id=one.id)
    submit(store, 1, batch_id=two.id)

    assert store.batches_of(job_id) == [one, two]


def test_the_most_urgent_wish_for_a_waiting_job_counts(store: JobStore) -> None:
    pending, queued, running = queue(store, 3)
    store.unqueue([pending])
    claim(store, running)

    again = store.submit(map(inversion, range(3)), priority=100)

    assert [each.created for each in again] == [False] * 3
    assert [store.job(each).priority for each in (pending, queued, running)] == [100, 100, 0]
    # The message in the bulk lane is not waited for.
    assert states(store, [pending, queued, running]) == ["pending", "pending", "running"]
    store.submit(map(inversion, range(3)), priority=-5)
    assert store.job(pending).priority == 100
