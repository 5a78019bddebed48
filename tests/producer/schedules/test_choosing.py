"""What a firing makes of a source: images that are good, bad, elsewhere, or not wanted."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jobs.schedules import FiringState
from jobs.states import State
from producer.client import Client
from producer.schedules.due import make_firings
from tests.producer.conftest import Finish, png
from tests.producer.schedules.conftest import (
    Fire,
    add_picture,
    again,
    end_jobs,
    firer,
    jobs_of,
    make,
    prompts,
    serve,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def test_a_changed_caption_is_another_recipe(
    client: Client, fire: Fire, finish: Finish, inbox: Path
) -> None:
    schedule = make(client, inbox, template={"edits": ("{caption}, in winter",)})
    end_jobs(client, finish, fire(schedule))
    (inbox / "b.txt").write_text("a hedge")

    assert prompts(client, again(client, fire, schedule)) == ["a hedge, in winter"]


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
    schedule = make(client, f"s3://{bucket}/in/", template={"edits": ("{caption} {path} {name}",)})
    first = fire(schedule)
    assert prompts(client, first) == ["a lake a.png a", "ein Fluß deep/b.png b"]
    end_jobs(client, finish, first)

    s3_client.put_object(Bucket=bucket, Key="in/a.png", Body=png(colour="olive"))

    assert prompts(client, again(client, fire, schedule)) == ["a lake a.png a"]


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


def test_a_long_downtime_of_a_busy_schedule_is_leapt_over(client: Client, inbox: Path) -> None:
    schedule = make(client, inbox, cron="* * * * *", late=timedelta(days=30))
    now = datetime.now(UTC)

    assert make_firings(client.store, now) == 1

    [firing] = client.store.firings(schedule)
    assert now - firing.due_at < timedelta(minutes=1)
    assert "more than 1000" in str(firing.note)
    assert client.store.schedule(schedule.name).next_at > now
