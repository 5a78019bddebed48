"""Retention in SQL: who is due, what leaves the rows, what goes into the outbox."""

from uuid import UUID

import pytest

from jobs.errors import NotFound
from jobs.records import Batch
from jobs.results import Output
from jobs.retention import Retention, What
from jobs.specs import ModelRef, Source, Spec
from jobs.store import JobStore
from tests.jobs.factories import LEASE, RESULT, Clock, edit, inversion

DAY = 86_400.0
OURS = "s3://ours/sources/"


def output(key: str) -> Output:
    return Output(key=key, sha256="ab" * 32, size=7)


def done(
    store: JobStore, spec: Spec, batch: Batch | None = None, *, latents: str = "inversions/x"
) -> UUID:
    """A job that succeeded just now, with an image of its own and an inversion."""
    [made] = store.submit([spec], batch_id=batch.id if batch else None)
    store.take_due(10)
    [claim] = store.claim([made.job_id], "w1", lease=LEASE)
    outputs = {"latents": output(latents)}
    if spec.kind != "inversion":
        outputs["image"] = output(f"results/{made.job_id}/a.png")
    store.finish(claim, RESULT.model_copy(update={"outputs": outputs}))
    return made.job_id


def roles(store: JobStore, job_id: UUID) -> set[str]:
    result = store.job(job_id).result
    assert result is not None
    return set(result.outputs)


def keys(store: JobStore) -> list[str]:
    return [entry.key for entry in store.deletions()]


def test_without_a_policy_nothing_is_ever_due(store: JobStore, clock: Clock) -> None:
    job_id = done(store, edit())
    clock.tick(10_000 * DAY)
    assert [store.strip_due(what, limit=9) for what in (What.RESULTS, What.LATENTS)] == [[], []]
    assert store.delete_due(sources=OURS, limit=9) == 0
    assert roles(store, job_id) == {"image", "latents"}


def test_results_leave_the_row_as_they_enter_the_outbox(store: JobStore, clock: Clock) -> None:
    store.set_retention(What.RESULTS, 30)
    job_id = done(store, edit())
    clock.tick(30 * DAY)
    assert store.strip_due(What.RESULTS, limit=9) == []
    clock.tick(1)

    assert store.strip_due(What.RESULTS, limit=9) == [f"results/{job_id}/a.png"]

    result = store.job(job_id).result
    assert result is not None
    assert (set(result.outputs), result.pruned) == ({"latents"}, ("image",))
    assert keys(store) == [f"results/{job_id}/a.png"]
    assert store.strip_due(What.RESULTS, limit=9) == []


def test_what_was_pruned_may_be_asked_for_again(store: JobStore, clock: Clock) -> None:
    store.set_retention(What.RESULTS, 1)
    job_id = done(store, edit())
    clock.tick(2 * DAY)
    store.strip_due(What.RESULTS, limit=9)

    [renewed] = store.submit([edit()])

    assert renewed.created
    assert renewed.job_id != job_id


def test_a_job_that_lost_only_its_noise_is_still_the_same_job(
    store: JobStore, clock: Clock
) -> None:
    store.set_retention(What.LATENTS, 1)
    edited, inverted = done(store, edit()), done(store, inversion())
    clock.tick(2 * DAY)
    assert store.strip_due(What.LATENTS, limit=9) == ["inversions/x"] * 2

    again = store.submit([edit(), inversion()])

    assert [each.created for each in again] == [False, True]
    assert again[0].job_id == edited != inverted


def test_jobs_that_have_not_ended_are_never_due(store: JobStore, clock: Clock) -> None:
    store.set_retention(What.ROWS, 0)
    [running] = store.submit([edit()])
    clock.tick(DAY)
    assert store.delete_due(sources=OURS, limit=9) == 0
    store.cancel([running.job_id])
    clock.tick(1)
    assert store.delete_due(sources=OURS, limit=9) == 1


def test_a_batchs_own_policy_stands_before_the_global_one(store: JobStore, clock: Clock) -> None:
    store.set_retention(What.RESULTS, 10)
    short, long, plain = (store.open_batch(name) for name in ("short", "long", "plain"))
    store.set_retention(What.RESULTS, 1, short)
    store.set_retention(What.RESULTS, 100, long)
    in_short = done(store, edit(1), short)
    in_long = done(store, edit(2), long)
    in_plain = done(store, edit(3), plain)
    in_none = done(store, edit(4))

    def gone(days: float) -> set[UUID]:
        clock.tick(days * DAY)
        return {UUID(key.split("/")[1]) for key in store.strip_due(What.RESULTS, limit=9)}

    assert gone(2) == {in_short}
    assert gone(9) == {in_plain, in_none}
    assert gone(90) == {in_long}


def test_a_job_of_several_batches_is_kept_as_the_most_careful_says(
    store: JobStore, clock: Clock
) -> None:
    short, open_ended = store.open_batch("short"), store.open_batch("open")
    store.set_retention(What.RESULTS, 1, short)
    done(store, edit(), short)
    store.submit([edit()], batch_id=open_ended.id)
    clock.tick(100 * DAY)
    assert store.strip_due(What.RESULTS, limit=9) == []
    store.set_retention(What.RESULTS, 2, open_ended)
    assert len(store.strip_due(What.RESULTS, limit=9)) == 1


def test_until_exported_means_until_exported(store: JobStore, clock: Clock) -> None:
    store.set_retention(What.RESULTS, None)
    first, second = done(store, edit(1)), done(store, edit(2))
    clock.tick(1_000 * DAY)
    assert store.strip_due(What.RESULTS, limit=9) == []

    store.mark_exported([first])
    store.mark_exported([first])

    assert store.strip_due(What.RESULTS, limit=9) == [f"results/{first}/a.png"]
    assert "image" in roles(store, second)


def test_a_row_goes_with_all_that_it_made_and_its_place_in_batches(
    store: JobStore, clock: Clock
) -> None:
    store.set_retention(What.ROWS, 1)
    batch = store.open_batch("b")
    ours = Source(uri=f"{OURS}ab/cd.png", sha256="c" * 64)
    mask = Source(uri=f"{OURS}ef/01.png", sha256="d" * 64)
    job_id = done(store, edit(source=ours, mask=mask), batch)
    foreign = done(store, edit(5), batch)
    clock.tick(2 * DAY)

    assert store.delete_due(sources=OURS, limit=1) == 1
    assert store.delete_due(sources=OURS, limit=9) == 1

    assert store.jobs_of(batch.id) == []
    with pytest.raises(NotFound):
        store.job(job_id)
    assert keys(store) == [
        "inversions/x",
        *sorted(f"results/{each}/a.png" for each in (job_id, foreign)),
        "sources/ab/cd.png",
        "sources/ef/01.png",
    ]


def test_an_inversion_says_who_may_use_it_pinned_or_not(store: JobStore, clock: Clock) -> None:
    store.set_retention(What.LATENTS, 1)
    pinned = ModelRef(name="demo", revision=RESULT.model_revision)
    other = ModelRef(name="demo", revision="other")
    done(store, edit(1))
    clock.tick(2 * DAY)
    store.strip_due(What.LATENTS, limit=9)
    [entry] = store.deletions()
    assert store.users_of(entry.digests, [entry.key]) == (set(), set())

    store.submit([edit(1, prompt="x", model=other), edit(2, prompt="x")])
    assert store.users_of(entry.digests, [entry.key]) == (set(), set())

    store.submit([edit(1, prompt="x", model=pinned)])
    live, named = store.users_of(entry.digests, [entry.key])
    assert len(live & set(entry.digests)) == 1
    assert named == set()

    done(store, inversion(1, model=pinned))
    assert store.users_of(entry.digests, [entry.key])[1] == {"inversions/x"}


def test_a_source_that_another_job_names_is_found_as_image_or_mask(store: JobStore) -> None:
    a, b, c = (Source(uri=f"{OURS}{name}", sha256="c" * 64) for name in "abc")
    store.submit([edit(source=a, mask=b)])
    assert store.sources_named([a.uri, b.uri, c.uri]) == {a.uri, b.uri}


def test_policies_are_listed_changed_and_cleared(store: JobStore) -> None:
    batch = store.open_batch("fruit")
    store.set_retention(What.RESULTS, 3)
    store.set_retention(What.RESULTS, 30)
    store.set_retention(What.LATENTS, None, batch)
    listed = [Retention(What.RESULTS, 30.0), Retention(What.LATENTS, None, "fruit")]
    assert store.retentions() == listed
    store.clear_retention(What.LATENTS, batch)
    assert store.retentions() == listed[:1]


def test_a_look_ahead_counts_without_changing_anything(store: JobStore, clock: Clock) -> None:
    store.set_retention(What.LATENTS, 1)
    store.set_retention(What.RESULTS, 1)
    old = done(store, edit(1, prompt="a"), latents="inversions/1")
    lonely = done(store, edit(2, prompt="a"), latents="inversions/2")
    clock.tick(2 * DAY)
    young = done(store, edit(1, prompt="b"), latents="inversions/1")

    [jobs] = store.due_jobs(chunk=9)

    assert [job.id for job in jobs] == [old, lonely]
    assert store.kept_inversions(jobs) == {"inversions/1"}
    assert jobs[0].dues == {What.LATENTS, What.RESULTS}
    assert [roles(store, each) for each in (old, lonely, young)] == [{"image", "latents"}] * 3
    assert [len(page) for page in store.due_jobs(chunk=1)] == [1, 1]
