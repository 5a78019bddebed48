"""Verdicts, tenants and the book of submissions, on every database."""

from uuid import UUID, uuid4

import pytest

from jobs.access import Quota, Scope
from jobs.errors import InvalidInput
from jobs.filters import JobFilter
from jobs.lanes import Lane
from jobs.marks import Verdict
from jobs.store import JobStore
from jobs.store.auditing import DAY, OverQuota, Submitter
from tests.jobs.factories import Clock, edit, submit


def test_the_last_word_on_a_result_counts(store: JobStore) -> None:
    first, second, third = submit(store, 3)
    store.mark(first, Verdict.REJECTED, "ann")
    store.mark(first, Verdict.APPROVED, "bob")
    store.mark(second, Verdict.REJECTED, "ann")
    store.mark(third, Verdict.APPROVED, "ann")
    store.mark(third, None, "bob")

    assert store.marks_of([first, second, third, uuid4()]) == {
        first: Verdict.APPROVED,
        second: Verdict.REJECTED,
    }
    [found] = store.find(JobFilter(mark=Verdict.APPROVED))
    assert found.id == first


def test_tenants_share_no_job(store: JobStore) -> None:
    spec = edit()
    mine, theirs, nobodys = (store.submit([spec], tenant=tenant)[0] for tenant in ("a", "b", None))
    assert len({mine.job_id, theirs.job_id, nobodys.job_id}) == 3
    assert store.submit([spec], tenant="a")[0].job_id == mine.job_id
    store.submit([edit(prompt="a fox")], tenant="a")

    assert [job.spec.kind for job in store.siblings(store.job(mine.job_id))] == ["edit"]
    assert store.siblings(store.job(theirs.job_id)) == []
    assert store.cancel_where(JobFilter(tenant="a")) == 2
    assert [job.id for job in store.find(JobFilter(tenant="b"))] == [theirs.job_id]


def test_a_batch_is_one_tenants(store: JobStore) -> None:
    batch = store.open_batch("fruit", tenant="a")
    assert (batch.name, store.open_batch("fruit", tenant="a").id) == ("a/fruit", batch.id)
    assert store.open_batch("fruit", tenant="b").id != batch.id
    with pytest.raises(InvalidInput, match="not yours"):
        store.open_batch("a/fruit")
    [found] = store.batches(9, tenant="a")
    assert found.batch == batch


def test_what_waits_is_counted_by_model_and_lane(store: JobStore) -> None:
    submit(store, 3)
    store.take_due(2)
    store.submit([edit()], priority=500)

    found = {depth.lane: (depth.model, depth.pending, depth.queued) for depth in store.depths()}
    assert found == {Lane.BULK: ("demo", 1, 2), Lane.INTERACTIVE: ("demo", 1, 0)}


def submitter(store: JobStore, quota: Quota) -> Submitter:
    """Somebody with a key of this quota."""
    key = store.api_key(store.make_api_key("one", Scope.SUBMIT, quota=quota))
    assert key is not None
    return Submitter(key.id.hex, key.name, key.tenant, key.quota)


def test_quotas_count_a_day(store: JobStore, clock: Clock) -> None:
    who = submitter(store, Quota(max_jobs=3, max_bytes=100))

    done = store.begin_submission(who, jobs=2)
    store.add_bytes(who, done, 60)
    store.end_submission(done, job_id=UUID(int=1))
    with pytest.raises(OverQuota) as caught:
        store.begin_submission(who, jobs=2)
    assert caught.value.name == "max_jobs"
    refused = store.begin_submission(who, jobs=1)
    with pytest.raises(OverQuota) as caught:
        store.add_bytes(who, refused, 41)
    assert caught.value.name == "max_bytes"
    store.refuse_submission(refused)
    [entry] = store.submissions(9)
    assert (entry.name, entry.jobs, entry.bytes, entry.job_id) == ("one", 2, 60, UUID(int=1))
    clock.tick(DAY.total_seconds() + 1)
    later = store.begin_submission(who, jobs=3)
    store.add_bytes(who, later, 100)


def test_the_bytes_of_what_was_refused_stay_counted_and_its_jobs_do_not(store: JobStore) -> None:
    who = submitter(store, Quota(max_jobs=2, max_bytes=100))

    refused = store.begin_submission(who, jobs=2)
    store.add_bytes(who, refused, 60)
    store.refuse_submission(refused)

    next_one = store.begin_submission(who, jobs=2)
    with pytest.raises(OverQuota):
        store.add_bytes(who, next_one, 41)
    store.add_bytes(who, next_one, 40)
