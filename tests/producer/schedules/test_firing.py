"""A firing submits what is new, changed or out of date, and nothing twice."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobs.ids import new_id
from jobs.records import Job, Worker
from jobs.schedules import Firing, FiringState, Schedule
from jobs.specs import EditSpec
from jobs.states import State
from producer.client import Client
from producer.schedules.due import make_firings
from tests.producer.conftest import Finish, png
from tests.producer.schedules.conftest import Fire, add_picture, firer, make

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def service_database(database_url: str) -> str:
    """Every kind."""
    return database_url


def jobs_of(client: Client, firing: Firing) -> list[Job]:
    return [] if firing.batch_id is None else client.store.jobs_of(firing.batch_id)


def prompts(client: Client, firing: Firing) -> list[str]:
    specs = [job.spec for job in jobs_of(client, firing)]
    return sorted(spec.edit_prompt for spec in specs if isinstance(spec, EditSpec))


def end_jobs(client: Client, finish: Finish, firing: Firing) -> None:
    finish(str(firing.batch_id), png(colour="navy"))
    client.store.settle_firings()


def again(client: Client, fire: Fire, schedule: Schedule) -> Firing:
    client.store.fire_now(schedule)
    return fire(schedule)


def serve(client: Client, revision: str) -> None:
    """A worker for the model at this revision says that it is there."""
    now = datetime.now(UTC)
    worker = Worker(str(new_id()), "host", 1, "cpu", "demo", revision, now, now)
    client.store.register_worker(worker)


def test_the_first_firing_makes_a_batch_of_everything(
    client: Client, fire: Fire, inbox: Path
) -> None:
    schedule = make(client, inbox)

    firing = fire(schedule)

    assert firing.state == FiringState.RUNNING
    assert firing.due_at == schedule.next_at
    assert (firing.looked_at, firing.submitted, firing.refused) == (3, 6, 0)
    assert prompts(client, firing) == sorted(
        [
            *(f"a {colour} wall, in winter" for colour in ("red", "green", "blue")),
            *(f"{stem} at night" for stem in "abc"),
        ]
    )
    job = jobs_of(client, firing)[0]
    assert job.spec.base_prompt == "a red wall"
    assert job.spec.sampler.steps == 4
    assert client.store.schedule("nightly").next_at > datetime.now(UTC)


def test_the_next_firing_takes_only_what_is_new_or_changed(
    client: Client, fire: Fire, finish: Finish, inbox: Path
) -> None:
    schedule = make(client, inbox)
    end_jobs(client, finish, fire(schedule))
    assert again(client, fire, schedule).submitted == 0

    add_picture(inbox, "d", "black")
    add_picture(inbox, "a", "white", caption="a red wall")
    firing = again(client, fire, schedule)

    assert prompts(client, firing) == [
        "a at night", "a black wall, in winter", "a red wall, in winter", "d at night",
    ]  # fmt: skip
    assert (firing.looked_at, firing.submitted) == (4, 4)
    end_jobs(client, finish, firing)
    last = again(client, fire, schedule)
    assert (last.state, last.submitted, last.batch_id) == (FiringState.DONE, 0, None)


def test_a_changed_caption_is_another_recipe(
    client: Client, fire: Fire, finish: Finish, inbox: Path
) -> None:
    schedule = make(client, inbox, template={"edits": ("{caption}, in winter",)})
    end_jobs(client, finish, fire(schedule))
    (inbox / "b.txt").write_text("a hedge")

    assert prompts(client, again(client, fire, schedule)) == ["a hedge, in winter"]


def test_what_an_older_model_made_is_made_again_once(
    client: Client, fire: Fire, finish: Finish, inbox: Path
) -> None:
    serve(client, "r")
    schedule = make(client, inbox)
    first = fire(schedule)
    end_jobs(client, finish, first)
    assert again(client, fire, schedule).submitted == 0

    serve(client, "r2")
    renewed = again(client, fire, schedule)

    assert renewed.submitted == 6
    assert {job.spec.model.revision for job in jobs_of(client, renewed)} == {"r2"}
    assert not {job.id for job in jobs_of(client, first)} & {
        job.id for job in jobs_of(client, renewed)
    }
    end_jobs(client, finish, renewed)
    assert again(client, fire, schedule).submitted == 0


def test_what_somebody_else_had_made_by_an_older_model_is_made_again(
    client: Client, fire: Fire, finish: Finish, inbox: Path
) -> None:
    # Given another schedule's jobs, made when the model was another
    serve(client, "r")
    end_jobs(client, finish, fire(make(client, inbox, name="before")))
    # When a schedule for the same edits is made after the model's upgrade
    serve(client, "r2")
    firing = fire(make(client, inbox))
    # Then their results do not pass for its own
    live = [job for job in jobs_of(client, firing) if job.state not in {State.SUCCEEDED}]
    assert len(live) == 6
    assert {job.spec.model.revision for job in live} == {"r2"}


@pytest.mark.parametrize(
    ("select", "expected"), [(["new"], 2), (["changed"], 2), (["recipe"], 0), (["model"], 6)]
)
def test_a_schedule_takes_only_what_it_selects(
    client: Client, fire: Fire, finish: Finish, inbox: Path, select: list[str], expected: int
) -> None:
    serve(client, "r")
    schedule = make(client, inbox, reasons=select)
    first = fire(schedule)
    if first.batch_id:
        end_jobs(client, finish, first)
    add_picture(inbox, "d", "black")
    add_picture(inbox, "a", "white", caption="a red wall")
    if select == ["model"]:
        serve(client, "r2")

    assert again(client, fire, schedule).submitted == expected


def test_a_damaged_image_is_refused_by_name_and_tried_again_when_it_is_mended(
    client: Client, fire: Fire, finish: Finish, inbox: Path
) -> None:
    (inbox / "broken.png").write_bytes(b"no pixels")
    (inbox / "broken.txt").write_text("a ruin")
    (inbox / "silent.png").write_bytes(png())
    schedule = make(client, inbox)
    first = fire(schedule)
    assert (first.looked_at, first.submitted, first.refused) == (5, 6, 3)
    assert "silent.txt" in str(first.note)
    assert "broken.png" in str(first.note)
    end_jobs(client, finish, first)

    (inbox / "broken.png").write_bytes(png(colour="gray"))

    assert again(client, fire, schedule).submitted == 2


def test_links_lead_out_of_a_folder_for_nobody(
    client: Client, fire: Fire, inbox: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(colour="gold"))
    (inbox / "link.png").symlink_to(secret)
    (inbox / "up").symlink_to(tmp_path)

    assert fire(make(client, inbox, template={"base": "", "edits": ("x",)})).looked_at == 3


def test_a_bucket_is_read_by_prefix_and_changes_are_told_by_etag(
    client: Client, fire: Fire, finish: Finish, s3_client: "S3Client", bucket: str
) -> None:
    for name in ("in/a.png", "in/deep/b.png", "out/c.png"):
        s3_client.put_object(Bucket=bucket, Key=name, Body=png(colour="teal"))
    s3_client.put_object(Bucket=bucket, Key="in/a.txt", Body=b"a lake")
    s3_client.put_object(Bucket=bucket, Key="in/deep/b.txt", Body="ein Fluß".encode())
    schedule = make(client, f"s3://{bucket}/in/", template={"edits": ("{caption} {name}",)})
    first = fire(schedule)
    assert prompts(client, first) == ["a lake a.png", "ein Fluß deep/b.png"]
    end_jobs(client, finish, first)

    s3_client.put_object(Bucket=bucket, Key="in/a.png", Body=png(colour="olive"))

    assert prompts(client, again(client, fire, schedule)) == ["a lake a.png"]


def test_without_edits_images_are_inverted(client: Client, fire: Fire, inbox: Path) -> None:
    firing = fire(make(client, inbox, template={"edits": ()}))
    assert [job.spec.kind for job in jobs_of(client, firing)] == ["inversion"] * 3


def test_a_source_that_is_gone_fails_the_firing_and_not_the_schedule(
    client: Client, fire: Fire, inbox: Path
) -> None:
    schedule = make(client, inbox)
    inbox.rename(inbox.with_name("elsewhere"))
    failed = fire(schedule)
    assert failed.state == FiringState.FAILED
    assert "is not a folder on" in str(failed.note)

    inbox.with_name("elsewhere").rename(inbox)

    assert again(client, fire, schedule).submitted == 6


def test_a_service_that_is_away_postpones_the_firing(
    client: Client, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = make(client, inbox)
    make_firings(client.store, datetime.now(UTC))
    away = client.settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:1"})
    with Client(away) as unlucky:
        assert firer(unlucky).fire_one()

    [firing] = client.store.firings(schedule)
    assert firing.state == FiringState.FIRING
    assert not firer(client).fire_one()


@pytest.mark.parametrize("step", ["remember", "open_batch", "end_firing"])
def test_a_holder_that_dies_anywhere_leaves_the_rest_to_the_next(
    client: Client,
    fire: Fire,
    finish: Finish,
    inbox: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    # Given a firing whose holder dies at its second chunk (or at the end)
    schedule = make(client, inbox)
    make_firings(client.store, datetime.now(UTC))
    calls = 0
    real: Any = getattr(client.store, step)

    def die(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == (1 if step == "end_firing" else 2):
            raise KeyboardInterrupt
        return real(*arguments, **options)

    with monkeypatch.context() as dying:
        dying.setattr(client.store, step, die)
        with pytest.raises(KeyboardInterrupt):
            firer(client, lease=0.2).fire_one()
    # When its lease has run out and another takes over
    client.store.fire_now(schedule)
    while not firer(client).fire_one():
        pass
    # Then everything was submitted once, and counted once
    [_, firing] = client.store.firings(schedule)
    assert firing.state == FiringState.RUNNING
    assert firing.attempts == 2
    assert (firing.looked_at, firing.submitted) == (3, 6)
    assert len(jobs_of(client, firing)) == 6
    assert sum(client.store.counts().values()) == 6


def test_times_missed_in_a_downtime_fire_one_after_the_other(
    client: Client, fire: Fire, finish: Finish, inbox: Path
) -> None:
    options = {"cron": "0 * * * *", "timezone": "UTC", "catch_up": "all", "overlap": "queue"}
    schedule = make(client, inbox, late=timedelta(hours=3), **options)
    fire(schedule)
    found = list(reversed(client.store.firings(schedule)))
    assert found[0].due_at == schedule.next_at
    assert [firing.state for firing in found] == ["running"] + ["waiting"] * (len(found) - 1)
    assert len({firing.due_at for firing in found}) == len(found) >= 3

    end_jobs(client, finish, found[0])
    for _ in found:
        fire(schedule)

    assert {firing.state for firing in client.store.firings(schedule)} == {FiringState.DONE}
    assert sum(client.store.counts().values()) == 6


def test_a_long_downtime_of_a_busy_schedule_is_leapt_over(client: Client, inbox: Path) -> None:
    schedule = make(client, inbox, cron="* * * * *", late=timedelta(days=30))
    now = datetime.now(UTC)

    assert make_firings(client.store, now) == 1

    [firing] = client.store.firings(schedule)
    assert now - firing.due_at < timedelta(minutes=1)
    assert "more than 1000" in str(firing.note)
    assert client.store.schedule(schedule.name).next_at > now


def test_two_processes_that_have_one_clock_make_each_firing_once(
    client: Client, inbox: Path
) -> None:
    schedule = make(client, inbox, late=timedelta(hours=5), cron="0 * * * *", catch_up="all")
    stale = replace(schedule)
    now = datetime.now(UTC)
    assert make_firings(client.store, now) == 1
    assert make_firings(client.store, now) == 0
    times = [firing.due_at for firing in client.store.firings(schedule)]
    assert not client.store.advance_schedule(stale, [], now)
    assert len(times) == len(set(times))
