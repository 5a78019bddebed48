"""`edict schedule`: work that comes back by itself."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from producer.cli import options
from producer.cli.options import Home, examples
from producer.cli.output import out, say, table

if TYPE_CHECKING:
    from jobs.schedules import Firing, Schedule, Template

SHOWN_TIMES = 3

app = typer.Typer(
    help="Process a folder or bucket again and again: what is new, changed or out of date.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog=examples(
        "edict schedule create winter --cron '0 2 * * *' --timezone Europe/Berlin "
        "--source s3://photos/inbox/ --from '{caption}' --template '{caption}, in winter'",
        "edict schedule run-now winter",
        "edict schedule history winter",
    ),
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the schedule.")]
Cron = Annotated[
    str, typer.Option("--cron", metavar="'M H DOM MON DOW'", help="When, as cron writes it.")
]
Source = Annotated[
    str,
    typer.Option(
        "--source",
        metavar="FOLDER|s3://PREFIX",
        help="Images under it. The control process must see the folder.",
    ),
]
Zone = Annotated[str, typer.Option("--timezone", metavar="ZONE", help="That --cron is read in.")]
Base = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="TEMPLATE",
        help="What an image shows now. {caption} (the .txt file beside it), {name}, {path} and "
        "{folder} stand for the image's own.",
    ),
]
Edits = Annotated[
    list[str] | None,
    typer.Option(
        "--template",
        metavar="TEMPLATE",
        help="What it should show. Repeatable. Without one, images are only inverted.",
    ),
]
Select = Annotated[
    str,
    typer.Option("--select", metavar="LIST", help="Which images: of new,changed,recipe,model."),
]
CatchUp = Annotated[
    str,
    typer.Option(
        "--catch-up",
        metavar="skip|once|all",
        help="Firing times that passed while no control process ran.",
    ),
]
Overlap = Annotated[
    str,
    typer.Option(
        "--overlap",
        metavar="skip|queue",
        help="A firing before whose time the last one's jobs have not ended.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(
    epilog=examples(
        "edict schedule create winter --cron '0 2 * * *' --timezone Europe/Berlin "
        "--source s3://photos/inbox/ --from '{caption}' --template '{caption}, in winter'",
        "edict schedule create noise --cron '*/15 * * * *' --source /data/photos --from 'a photo'",
    )
)
def create(
    name: Name,
    cron: Cron,
    source: Source,
    timezone: Zone = "UTC",
    base: Base = "",
    template: Edits = None,
    select: Select = "new,changed,recipe,model",
    catch_up: CatchUp = "once",
    overlap: Overlap = "queue",
    steps: options.Steps = 50,
    strength: options.Strength = 0.8,
    guidance: options.Guidance = 3.0,
    sampler: options.Sampler = "edict",
    size: options.Size = None,
    fit: options.Fit = "crop",
    model: options.Model = None,
    priority: options.Priority = 0,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Make a schedule; the control process fires it from the next time on."""
    from jobs.schedules import Template
    from producer.cli.services import open_client
    from producer.schedules.making import new_schedule

    how = {"name": sampler, "steps": steps, "strength": strength, "guidance_scale": guidance}
    with open_client(home) as client:
        wish = Template(
            base=base,
            edits=tuple(template or ()),
            fields={"sampler": how, "image": {"size": size, "fit": fit}},
            model=model or client.settings.default_model,
            priority=priority,
        )
        made = new_schedule(
            client,
            name=name,
            cron=cron,
            timezone=timezone,
            source=source,
            template=wish,
            reasons=options.device_names(select),
            catch_up=catch_up,
            overlap=overlap,
        )
        client.store.create_schedule(made)
    _tell_made(made, as_json=as_json)


def _tell_made(made: "Schedule", *, as_json: bool) -> None:
    if as_json:
        _print_json(_plain(made))
        return
    next_at = _local(made, made.next_at)
    say(f"schedule [bold]{escape(made.name)}[/] fires next at {escape(next_at)}")


@app.command("list", epilog=examples("edict schedule list", "edict schedule list --json"))
def list_(as_json: AsJson = False, home: Home = None) -> None:
    """Show all schedules."""
    from producer.cli.services import open_client

    with open_client(home) as client:
        found = client.store.schedules()
    if as_json:
        _print_json([_plain(each) for each in found])
        return
    shown = table("schedule", "cron", "time zone", "next", "source")
    for each in found:
        following = "paused" if each.paused_at else _local(each, each.next_at)
        shown.add_row(*map(escape, (each.name, each.cron, each.timezone, following, each.source)))
    out.print(shown if found else "there is no schedule; `edict schedule create --help`")


@app.command(epilog=examples("edict schedule show winter"))
def show(name: Name, as_json: AsJson = False, home: Home = None) -> None:
    """Show a schedule in full, and its next times."""
    from producer.cli.services import open_client

    with open_client(home) as client:
        found = client.store.schedule(name)
    if as_json:
        _print_json(_plain(found))
        return
    shown = table("", "")
    shown.show_header = False
    for label, value in _details(found):
        shown.add_row(f"[bold]{label}[/]", escape(value))
    out.print(shown)


@app.command(epilog=examples("edict schedule pause winter"))
def pause(name: Name, as_json: AsJson = False, home: Home = None) -> None:
    """Let it fire no more until `resume`. What has begun goes on."""
    from producer.cli.services import open_client

    with open_client(home) as client:
        client.store.pause_schedule(client.store.schedule(name))
    if as_json:
        _print_json({"name": name, "paused": True})
        return
    say(f"schedule [bold]{escape(name)}[/] is paused")


@app.command(epilog=examples("edict schedule resume winter"))
def resume(name: Name, as_json: AsJson = False, home: Home = None) -> None:
    """Let it fire again. Times that passed in the pause are not made up for."""
    from producer.cli.services import open_client
    from producer.schedules.times import next_time

    with open_client(home) as client:
        found = client.store.schedule(name)
        following = next_time(found.cron, found.timezone, datetime.now(UTC))
        client.store.resume_schedule(found, following)
    if as_json:
        _print_json({"name": name, "paused": False, "next_at": following})
        return
    say(f"schedule [bold]{escape(name)}[/] fires next at {escape(_local(found, following))}")


@app.command("run-now", epilog=examples("edict schedule run-now winter"))
def run_now(name: Name, as_json: AsJson = False, home: Home = None) -> None:
    """Fire at once, besides the times of its cron. The control process does the work."""
    from producer.cli.services import open_client

    with open_client(home) as client:
        client.store.fire_now(client.store.schedule(name))
    if as_json:
        _print_json({"name": name, "fired": True})
        return
    say(f"fired; see `edict schedule history {escape(name)}`")


@app.command(epilog=examples("edict schedule history winter", "edict schedule history winter -n 5"))
def history(
    name: Name,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=10_000)] = 20,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Show the last firings, newest first."""
    from producer.cli.services import open_client

    with open_client(home) as client:
        schedule = client.store.schedule(name)
        found = client.store.firings(schedule, limit=limit)
    if as_json:
        _print_json([vars(each) for each in found])
        return
    shown = table("time", "state", "images", "jobs", "refused", "batch", "note")
    for each in found:
        shown.add_row(*_cells(schedule, each))
    out.print(shown if found else "it has not fired yet")


@app.command(epilog=examples("edict schedule delete winter"))
def delete(name: Name, as_json: AsJson = False, home: Home = None) -> None:
    """Remove a schedule, its history and what it knows of its images. Its jobs stay."""
    from producer.cli.services import open_client

    with open_client(home) as client:
        client.store.delete_schedule(client.store.schedule(name))
    if as_json:
        _print_json({"name": name, "deleted": True})
        return
    say(f"schedule [bold]{escape(name)}[/] is deleted")


def _local(schedule: "Schedule", moment: datetime) -> str:
    from producer.schedules.times import zone_of

    return moment.astimezone(zone_of(schedule.timezone)).strftime("%Y-%m-%d %H:%M %Z")


def _cells(schedule: "Schedule", firing: "Firing") -> Sequence[str]:
    when = _local(schedule, firing.due_at) + (" (run-now)" if firing.manual else "")
    return (
        escape(when),
        firing.state,
        str(firing.looked_at),
        str(firing.submitted),
        str(firing.refused),
        str(firing.batch_id or ""),
        escape(firing.note or ""),
    )


def _details(schedule: "Schedule") -> list[tuple[str, str]]:
    from itertools import islice

    from producer.schedules.times import in_words, times_after

    times = islice(times_after(schedule.cron, schedule.timezone, datetime.now(UTC)), SHOWN_TIMES)
    return [
        ("schedule", schedule.name),
        ("cron", f"{schedule.cron} ({in_words(schedule.cron)}, {schedule.timezone})"),
        ("next", "paused" if schedule.paused_at else ", ".join(_local(schedule, t) for t in times)),
        ("source", schedule.source),
        ("from", schedule.template.base),
        *(("to", prompt) for prompt in schedule.template.edits),
        ("model", _model(schedule.template, schedule.model_revision)),
        ("select", ", ".join(sorted(schedule.reasons))),
        ("catch up", schedule.catch_up),
        ("overlap", schedule.overlap),
    ]


def _model(template: "Template", revision: str | None) -> str:
    return template.model + (f" (last seen at {revision})" if revision else "")


def _plain(schedule: "Schedule") -> dict[str, Any]:
    return vars(schedule) | {
        "template": schedule.template.model_dump(mode="json"),
        "reasons": sorted(schedule.reasons),
    }


def _print_json(value: object) -> None:
    out.print(json.dumps(value, default=str), highlight=False, soft_wrap=True, markup=False)
