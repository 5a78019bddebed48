"""`edict cancel`, `retry`, `pause`, `resume`: what people ask of jobs that are there already."""

import json as js
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from jobs.filters import JobFilter
from jobs.states import LIVE, State
from producer.cli import options
from producer.cli.options import Home, examples
from producer.cli.output import out, say
from producer.cli.selection import confirmed

if TYPE_CHECKING:
    from jobs.records import Batch

CANCEL_EXAMPLES = examples(
    "edict cancel 0199e0c4-5b1e-7c3a-9d2f-3f6f1f1f2a10",
    "edict cancel fruit                   [dim]all of a batch that has not ended[/]",
    "edict cancel fruit --prompt 'blue lemons' --yes",
    "edict cancel --model demo --state pending",
)
RETRY_EXAMPLES = examples(
    "edict retry 0199e0c4-5b1e-7c3a-9d2f-3f6f1f1f2a10",
    "edict retry fruit                    [dim]all of a batch that failed[/]",
    "edict retry fruit --state cancelled",
    "edict retry --code service_unavailable --yes",
)
PAUSE_EXAMPLES = examples("edict pause fruit", "edict resume fruit")
RESUME_EXAMPLES = examples("edict resume fruit")

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[JOB|BATCH]...", help="Jobs' ids, batches' names or ids."),
]
States = Annotated[
    list[State] | None,
    typer.Option("--state", metavar="STATE", help="Only those in this state. Repeatable."),
]
All = Annotated[bool, typer.Option("--all", help="Every job there is, where none is named.")]
Name = Annotated[str, typer.Argument(metavar="BATCH", help="Name or id.")]


def cancel(
    names: Names = None,
    state: States = None,
    kind: options.Kind = None,
    code: options.Code = None,
    model: options.OfModel = None,
    prompt: options.Says = None,
    everything: All = False,
    yes: options.Yes = False,
    json: options.Json = False,
    home: Home = None,
) -> None:
    """Stop jobs that have not ended; running ones stop within seconds. Asks, except for ids."""
    states = tuple(state or LIVE)
    which = JobFilter(states=states, kind=kind, code=code, model=model, prompt=prompt)
    from producer.cli.services import open_client

    with open_client(home) as client:
        meant = confirmed(client, "Cancel", names or [], which, everything=everything, yes=yes)
        cancelled = client.cancel(meant.job_ids) + sum(map(client.cancel, meant.filters))
    _report("cancelled", cancelled, json=json)


def retry(
    names: Names = None,
    state: States = None,
    kind: options.Kind = None,
    code: options.Code = None,
    model: options.OfModel = None,
    prompt: options.Says = None,
    everything: All = False,
    yes: options.Yes = False,
    json: options.Json = False,
    home: Home = None,
) -> None:
    """Try failed jobs again (or cancelled ones: --state cancelled). Asks, except for ids."""
    states = tuple(state or [State.FAILED])
    which = JobFilter(states=states, kind=kind, code=code, model=model, prompt=prompt)
    from producer.cli.services import open_client

    with open_client(home) as client:
        meant = confirmed(client, "Retry", names or [], which, everything=everything, yes=yes)
        retried = client.retry(meant.job_ids) + sum(map(client.retry, meant.filters))
    _report("retried", retried, json=json)


def pause(batch: Name, json: options.Json = False, home: Home = None) -> None:
    """Start no more jobs of a batch until `edict resume`; running ones go on to their end."""
    from producer.cli.services import open_client

    with open_client(home) as client:
        paused = client.pause(batch)
        left = client.store.count(JobFilter(batch=paused.id, states=(State.RUNNING,)))
    _tell(paused, f"paused; {left} of its jobs still run", json=json)


def resume(batch: Name, json: options.Json = False, home: Home = None) -> None:
    """Let a paused batch go on."""
    from producer.cli.services import open_client

    with open_client(home) as client:
        resumed = client.resume(batch)
        left = client.store.count(JobFilter(batch=resumed.id, states=LIVE))
    _tell(resumed, f"goes on; {left} of its jobs are to be done", json=json)


def _report(done: str, count: int, *, json: bool) -> None:
    if json:
        out.print_json(js.dumps({done: count}))
    else:
        say(f"{count} {done}")


def _tell(batch: "Batch", what: str, *, json: bool) -> None:
    from producer.plain import plain_batch

    if json:
        out.print_json(js.dumps(plain_batch(batch)))
    else:
        say(f"batch [bold]{escape(batch.name or str(batch.id))}[/] {what}")
