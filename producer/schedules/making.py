"""A new schedule, checked whole before anything is stored."""

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from jobs.errors import InvalidInput
from jobs.ids import new_id
from jobs.schedules import CatchUp, Overlap, Reason, Schedule, Template
from jobs.specs import parse_spec
from producer.client import MAX_PRIORITY, Client
from producer.schedules.listing import check_template
from producer.schedules.times import check_times, next_time

_NAME_CHARACTERS = 150
_NO_IMAGE_YET = {"uri": "s3://not/known-yet", "sha256": "0" * 64}

Choice = TypeVar("Choice", bound=StrEnum)


def new_schedule(
    client: Client,
    *,
    name: str,
    cron: str,
    timezone: str,
    source: str,
    template: Template,
    reasons: Sequence[str] = tuple(Reason),
    catch_up: str = CatchUp.ONCE,
    overlap: str = Overlap.QUEUE,
) -> Schedule:
    """Make a schedule that fires from now on; it is not stored.

    Raises:
        InvalidInput: names the first field that is wrong, its value and the remedy.
    """
    _check_name(name)
    check_times(cron, timezone)
    check_template(template)
    _check_spec(client, template)
    caught_up = _choice(CatchUp, "catch-up", catch_up)
    overlapping = _choice(Overlap, "overlap", overlap)
    if caught_up == CatchUp.ALL and overlapping == Overlap.SKIP:
        raise InvalidInput(
            "overlap",
            "'skip' would skip all but the first of the times that --catch-up all brings back; "
            "use --overlap queue",
        )
    if not reasons:
        raise InvalidInput("select", f"names nothing; give some of {', '.join(Reason)}")
    now = datetime.now(UTC)
    return Schedule(
        id=new_id(),
        name=name,
        cron=cron,
        timezone=timezone,
        source=_checked_source(client, source),
        template=template,
        reasons=frozenset(_choice(Reason, "select", reason) for reason in reasons),
        catch_up=caught_up,
        overlap=overlapping,
        created_at=now,
        paused_at=None,
        next_at=next_time(cron, timezone, now),
    )


def _check_name(name: str) -> None:
    fit = name.isprintable() and name.strip() and "/" not in name  # it is a part of addresses
    if not fit or len(name) > _NAME_CHARACTERS:
        raise InvalidInput(
            "name",
            f"must be 1 to {_NAME_CHARACTERS} printable characters without / (got {name!r:.170})",
        )


def _choice(kind: type[Choice], field: str, value: str) -> Choice:
    try:
        return kind(value)
    except ValueError:
        raise InvalidInput(field, f"{value!r} is not one of {', '.join(kind)}") from None


def _check_spec(client: Client, template: Template) -> None:
    """Look whether images would become jobs, but for what their captions say."""
    if not -MAX_PRIORITY <= template.priority <= MAX_PRIORITY:
        raise InvalidInput(
            "priority", f"{template.priority} is not from {-MAX_PRIORITY} to {MAX_PRIORITY}"
        )
    common = {
        **template.fields,
        "source": _NO_IMAGE_YET,
        "model": client.model(template.model),
        "base_prompt": template.base,
    }
    for prompt in template.edits:
        parse_spec({**common, "kind": "edit", "edit_prompt": prompt})
    if not template.edits:
        parse_spec({**common, "kind": "inversion"})


def _checked_source(client: Client, source: str) -> str:
    """The source as any process of this host may find it.

    Raises:
        InvalidInput: no such folder, or a bucket that is not allowed.
    """
    if source.startswith("s3://"):
        bucket = source.removeprefix("s3://").partition("/")[0]
        client.objects.locate(f"s3://{bucket}/_")
        return source if source.count("/") > 2 else f"{source}/"
    folder = Path(source)
    if not folder.is_dir():
        raise InvalidInput("source", f"{source!r} is no folder; give one that holds images")
    return str(folder.resolve())
