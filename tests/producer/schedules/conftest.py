"""A folder of pictures, schedules that are due, and who fires them."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs.ids import new_id
from jobs.records import Job, Worker
from jobs.schedules import Firing, Schedule, Template
from jobs.specs import EditSpec
from producer.client import Client
from producer.schedules.due import make_firings
from producer.schedules.fire import Firer
from producer.schedules.making import new_schedule
from tests.producer.conftest import Finish, png

Fire = Callable[[Schedule], Firing]


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """Three pictures with captions, one of them in a folder of its own."""
    folder = tmp_path / "inbox"
    (folder / "more").mkdir(parents=True)
    for name, colour in (("a", "red"), ("b", "green"), ("more/c", "blue")):
        add_picture(folder, name, colour)
    return folder


def add_picture(folder: Path, name: str, colour: str, caption: str | None = None) -> Path:
    path = folder / f"{name}.png"
    path.write_bytes(png(colour=colour))
    path.with_suffix(".txt").write_text(caption or f"a {colour} wall\n")
    return path


def make(client: Client, source: str | Path, **options: Any) -> Schedule:
    """A schedule whose time came a moment ago."""
    wish = {
        "base": "{caption}",
        "edits": ("{caption}, in winter", "{name} at night"),
        "fields": {"sampler": {"steps": 4}},
        "model": "demo",
    }
    template = Template(**{**wish, **options.pop("template", {})})
    late = options.pop("late", timedelta(seconds=1))
    chosen = {"name": "nightly", "cron": "0 2 * * *", "timezone": "Europe/Berlin", **options}
    made = new_schedule(client, source=str(source), template=template, **chosen)
    due = replace(made, next_at=datetime.now(UTC).replace(microsecond=0) - late)
    client.store.create_schedule(due)
    return due


def firer(client: Client, *, lease: float = 30.0, chunk: int = 2) -> Firer:
    return Firer(client, "test", threading.Event(), lease=lease, chunk=chunk)


@pytest.fixture
def fire(client: Client) -> Fire:
    """Do what a control process does until a schedule's newest firing is over, its jobs apart."""

    def fire_all(schedule: Schedule) -> Firing:
        make_firings(client.store, datetime.now(UTC))
        while firer(client).fire_one():
            pass
        client.store.settle_firings()
        return client.store.firings(schedule)[0]

    return fire_all


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
