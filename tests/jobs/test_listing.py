"""Lists of jobs by their figures, in SQL as in Python."""

import itertools
from typing import Any
from uuid import UUID

import pytest

from jobs.filters import JobFilter, Order
from jobs.gates import Condition
from jobs.records import Job
from jobs.store import JobStore
from tests.jobs.factories import LEASE, RESULT, inversion, submit

FIGURES: list[dict[str, Any]] = [
    {"psnr": 30.5, "exact": True, "similarity": 0.9, "mask_area": 0.25},
    {"psnr": 12.0, "exact": False, "similarity": 0.1, "max_error": 0.5},
    {"psnr": None, "exact": True, "similarity": 1.0, "max_error": 0.0},
    {"psnr": None, "exact": None, "similarity": None},
    {"psnr": 30.5, "exact": True, "similarity": 0.4, "inversion_reused": True},
]
CONDITIONS = ["psnr>=20", "psnr<20", "psnr>30.5", "exact=true", "exact=false", "similarity<=0.4",
              "mask_area>0", "max_error=0", "inversion_reused=true"]  # fmt: skip


@pytest.fixture
def made(store: JobStore) -> list[Job]:
    """Jobs that succeeded with these figures, the first made first, and one that waits."""
    job_ids = submit(store, len(FIGURES))
    store.take_due(10)
    claims = {each.job_id: each for each in store.claim(job_ids, "w1", lease=LEASE)}
    for job_id, figures in zip(job_ids, FIGURES, strict=True):
        store.finish(claims[job_id], RESULT.model_copy(update=figures))
    store.submit([inversion(99)])
    return [store.job(job_id) for job_id in job_ids]


def ids(found: list[Job]) -> list[UUID]:
    return [job.id for job in found]


@pytest.mark.parametrize("written", CONDITIONS)
def test_a_condition_means_in_sql_what_it_means_of_a_result(
    store: JobStore, made: list[Job], written: str
) -> None:
    condition = Condition.parse(written)

    found = store.list_jobs(JobFilter(figures=(condition,)), None, None, Order.OLDEST)

    expected = [job.id for job in made if job.result and condition.holds(job.result)]
    assert ids(found) == expected
    assert 0 < len(expected) < len(made)


@pytest.mark.parametrize("order", Order)
def test_pages_together_are_the_whole_list_in_its_order(
    store: JobStore, made: list[Job], order: Order
) -> None:
    whole = store.list_jobs(JobFilter(), None, None, order)

    paged: list[Job] = []
    while page := store.list_jobs(JobFilter(), paged[-1].id if paged else None, 2, order):
        paged += page

    assert ids(paged) == ids(whole)
    assert len(whole) == len(made) + 1
    values = [order.figure and job.result and getattr(job.result, order.figure) for job in whole]
    known = list(itertools.takewhile(lambda value: value is not None, values))
    assert known == sorted(known, reverse=order.descends)
    # Those without the figure come last.
    assert set(values[len(known) :]) <= {None}


def test_what_is_flagged_in_a_batch_is_found_there(store: JobStore) -> None:
    batch = store.open_batch("gated")
    store.set_gate(batch.id, ("psnr>=20",))
    job_ids = [
        each.job_id for each in store.submit([inversion(1), inversion(2)], batch_id=batch.id)
    ]
    store.take_due(10)
    for held, value in zip(store.claim(job_ids, "w1", lease=LEASE), (10.0, 30.0), strict=True):
        store.finish(held, RESULT.model_copy(update={"psnr": value}))

    bad = store.list_jobs(JobFilter(batch=batch.id, flagged=True), None, None)
    good = store.list_jobs(JobFilter(batch=batch.id, flagged=False), None, None)

    assert [job.result and job.result.psnr for job in bad] == [10.0]
    assert [job.result and job.result.psnr for job in good] == [30.0]
