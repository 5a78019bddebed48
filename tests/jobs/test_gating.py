"""Quality gates: what is flagged, in which batch, and when."""

from typing import Any

import pytest

from jobs.errors import InvalidInput, NotFound
from jobs.gates import Condition, is_flagged, parse_gate
from jobs.ids import new_id
from jobs.results import Result
from jobs.states import State
from jobs.store import JobStore
from tests.jobs.factories import RESULT, claim, inversion


def result(**figures: Any) -> Result:
    return RESULT.model_copy(update={"exact": None, **figures})


@pytest.mark.parametrize(
    ("condition", "figures", "flagged"),
    [
        ("psnr>=20", {"psnr": 19.9}, True),
        ("psnr>=20", {"psnr": 20.0}, False),
        ("psnr>=20", {"psnr": None, "exact": True}, False),
        ("exact=true", {"exact": False}, True),
        ("exact=true", {"exact": None}, False),
        ("mask_area<=0.5", {"mask_area": 0.6}, True),
        ("mask_area<=0.5", {}, False),
        ("similarity>0.3", {"similarity": 0.3}, True),
    ],
)
def test_a_figure_that_falls_short_flags_and_one_that_is_not_there_does_not(
    condition: str, figures: dict[str, Any], flagged: bool
) -> None:
    assert is_flagged(parse_gate([condition]), result(**figures)) is flagged


def test_results_below_the_gate_are_flagged_in_that_batch_only(store: JobStore) -> None:
    strict, open_ = store.open_batch("strict").id, store.open_batch("open").id
    store.set_gate(strict, ["psnr>=20"])
    made = [each.job_id for each in store.submit(map(inversion, range(3)), batch_id=strict)]
    store.submit(map(inversion, range(3)), batch_id=open_)
    store.take_due(3)

    for job_id, psnr in zip(made, (10.0, 30.0, 15.0), strict=True):
        store.finish(claim(store, job_id), result(psnr=psnr))

    assert (store.flagged_of(strict), store.flagged_of(open_)) == (2, 0)
    assert store.flagged_among(strict, made) == {made[0], made[2]}
    assert store.counts(strict)[State.SUCCEEDED] == 3
    assert {each.batch.name: each.flagged for each in store.batches(5)} == {"strict": 2, "open": 0}


def test_a_gate_that_is_set_or_changed_later_judges_what_is_there(store: JobStore) -> None:
    batch = store.open_batch("late").id
    [done, running] = [
        each.job_id for each in store.submit(map(inversion, range(2)), batch_id=batch)
    ]
    store.take_due(2)
    store.finish(claim(store, done), result(psnr=10.0))
    held = claim(store, running)

    store.set_gate(batch, ["psnr>=20"])
    assert store.flagged_among(batch, [done, running]) == {done}
    store.finish(held, result(psnr=5.0))
    assert store.flagged_of(batch) == 2
    store.set_gate(batch, ["psnr>=8"])
    assert store.flagged_among(batch, [done, running]) == {running}
    store.set_gate(batch, [])
    assert (store.flagged_of(batch), store.gate_of(batch)) == (0, ())


@pytest.mark.parametrize("in_bulk", [False, True])
def test_what_succeeded_before_is_judged_by_the_batch_that_it_joins(
    store: JobStore, in_bulk: bool
) -> None:
    [made] = store.submit([inversion(0)])
    store.take_due(1)
    store.finish(claim(store, made.job_id), result(psnr=10.0))
    batch = store.open_batch("gated").id
    store.set_gate(batch, ["psnr>=20"])

    if in_bulk:
        store.submit_chunk([inversion(0), inversion(1)], batch_id=batch, digest=None)
    else:
        store.submit([inversion(0), inversion(1)], batch_id=batch)

    assert store.flagged_of(batch) == 1


def test_a_gate_that_is_none_is_refused(store: JobStore) -> None:
    batch = store.open_batch("one").id
    for bad in ("psnr", "beauty>=1", "psnr>=nan"):
        with pytest.raises(InvalidInput, match="gate"):
            store.set_gate(batch, [bad])
    with pytest.raises(NotFound):
        store.set_gate(new_id(), ["psnr>=1"])
    assert store.gate_of(batch) == ()
    assert Condition.parse("psnr >= 3").value == 3
