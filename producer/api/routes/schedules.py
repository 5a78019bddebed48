"""Schedules: of the whole deployment, so that keys of tenants see none."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from jobs.schedules import Firing, Schedule, Template
from producer.api.parts import problems
from producer.api.problems import renamed
from producer.api.seen import Seen, TheView
from producer.api.shapes import Firings, FiringShape, Schedules, ScheduleShape
from producer.api.wishes import ScheduleWish
from producer.plain import moment
from producer.schedules.making import new_schedule
from producer.schedules.times import in_words, next_time


def _all_seen(seen: TheView) -> Seen:
    seen.require_all()
    return seen


WholeView = Annotated[Seen, Depends(_all_seen)]
router = APIRouter(prefix="/v1/schedules", tags=["schedules"])


@router.get("", response_model=Schedules, responses=problems())
def list_(seen: WholeView) -> Any:
    """List the schedules, by name."""
    return {"items": [_plain(each) for each in seen.store.schedules()]}


@router.post("", status_code=201, response_model=ScheduleShape, responses=problems(400, 413))
def create(wish: ScheduleWish, seen: WholeView, response: Response) -> Any:
    """Have images of a bucket processed by cron: those that are new, changed or out of date."""
    fields = wish.model_dump(include={"sampler", "image", "output"}, exclude_defaults=True)
    template = Template(
        base=wish.base_prompt,
        edits=wish.edit_prompts,
        fields=fields,
        model=seen.client.model(wish.model).label,
        priority=wish.priority,
    )
    with renamed(source__uri="source"):
        made = new_schedule(
            seen.client,
            name=wish.name,
            cron=wish.cron,
            timezone=wish.timezone,
            source=wish.source,
            template=template,
            reasons=wish.select,
            catch_up=wish.catch_up,
            overlap=wish.overlap,
        )
    seen.store.create_schedule(made)
    response.headers["Location"] = f"/v1/schedules/{wish.name}"
    return _plain(made)


@router.get("/{name}", response_model=ScheduleShape, responses=problems(404))
def show(name: str, seen: WholeView) -> Any:
    """Show a schedule."""
    return _plain(seen.store.schedule(name))


@router.delete("/{name}", status_code=204, responses=problems(404))
def delete(name: str, seen: WholeView) -> Response:
    """Remove a schedule and its history; what it submitted stays."""
    seen.store.delete_schedule(seen.store.schedule(name))
    return Response(status_code=204)


@router.post("/{name}/pause", response_model=ScheduleShape, responses=problems(404, 409))
def pause(name: str, seen: WholeView) -> Any:
    """Let it fire no more until it is resumed."""
    seen.store.pause_schedule(seen.store.schedule(name))
    return _plain(seen.store.schedule(name))


@router.post("/{name}/resume", response_model=ScheduleShape, responses=problems(404, 409))
def resume(name: str, seen: WholeView) -> Any:
    """Let it fire again; times that passed in the pause are not made up for."""
    found = seen.store.schedule(name)
    following = next_time(found.cron, found.timezone, datetime.now(UTC))
    seen.store.resume_schedule(found, following)
    return _plain(seen.store.schedule(name))


@router.post("/{name}/fire", status_code=202, response_model=FiringShape, responses=problems(404))
def fire(name: str, seen: WholeView) -> Any:
    """Fire at once, besides its times; the control process does the work."""
    return _plain_firing(seen.store.fire_now(seen.store.schedule(name)))


@router.get("/{name}/firings", response_model=Firings, responses=problems(404))
def firings(name: str, seen: WholeView, limit: Annotated[int, Query(ge=1, le=200)] = 20) -> Any:
    """The last firings, newest first."""
    found = seen.store.firings(seen.store.schedule(name), limit=limit)
    return {"items": [_plain_firing(each) for each in found]}


def _plain(schedule: Schedule) -> dict[str, Any]:
    return {
        "name": schedule.name,
        "cron": schedule.cron,
        "words": in_words(schedule.cron),
        "timezone": schedule.timezone,
        "source": schedule.source,
        "base_prompt": schedule.template.base,
        "edit_prompts": schedule.template.edits,
        "model": schedule.template.model,
        "select": sorted(schedule.reasons),
        "catch_up": schedule.catch_up,
        "overlap": schedule.overlap,
        "created": moment(schedule.created_at),
        "paused": moment(schedule.paused_at),
        "next": moment(schedule.next_at),
    }


def _plain_firing(firing: Firing) -> dict[str, Any]:
    return {
        "id": firing.id,
        "due": moment(firing.due_at),
        "state": firing.state,
        "manual": firing.manual,
        "finished": moment(firing.finished_at),
        "batch": firing.batch_id,
        "images": firing.looked_at,
        "jobs": firing.submitted,
        "refused": firing.refused,
        "note": firing.note,
    }
