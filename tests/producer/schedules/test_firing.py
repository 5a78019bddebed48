"""A firing submits what is new, changed or out of date, and nothing twice."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs.schedules import FiringState
from producer.client import Client
from producer.schedules.due import make_firings
from tests.producer.conftest import Finish
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


@pytest.fixture
def service_database(database_url: str) -> str:
    """Every kind."""
    return database_url


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
