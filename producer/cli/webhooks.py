"""`edict webhooks`: what was told to whom, and telling it again."""

import json as json_module
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer
from rich.markup import escape

from producer.cli.options import Home, JobOrBatch, Json, examples
from producer.cli.output import out, print_data, say, table

if TYPE_CHECKING:
    from jobs.webhooks import Delivery
    from producer.client import Client

COLOURS = {"pending": "cyan", "delivered": "green", "failed": "red"}

app = typer.Typer(
    help="See what was told to whom when jobs and batches ended, and tell it again.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog=examples(
        "edict webhooks list fruit",
        "edict webhooks resend --failed",
        "export EDICT_WEBHOOK_SECRET=$(edict webhooks secret)",
    ),
)


@app.command(
    "list",
    epilog=examples(
        "edict webhooks list",
        "edict webhooks list fruit            [dim]of the batch and of its jobs[/]",
        "edict webhooks list --state failed --json",
    ),
)
def list_(
    what: JobOrBatch = None,
    state: Annotated[
        str | None, typer.Option("--state", metavar="pending|delivered|failed", help="Only these.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The newest of them.")] = 100,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    home: Home = None,
) -> None:
    """Show deliveries, the newest first."""
    from producer.cli.services import open_client

    with open_client(home) as client:
        found = _find(client, what, state, limit)
    if json:
        for each in found:
            typer.echo(json_module.dumps(asdict(each), default=str))
        return
    listed = table("delivery", "state", "event", "tries", "url", "what became of it")
    for each in found:
        listed.add_row(*_cells(each))
    out.print(listed)
    if len(found) == limit:
        say(f"the newest {limit}; --limit shows more")


def _find(client: "Client", what: str | None, state: str | None, limit: int) -> "list[Delivery]":
    from jobs.errors import InvalidInput
    from jobs.records import Job
    from jobs.webhooks import DeliveryState
    from producer.cli.status import find

    states = tuple(DeliveryState) if state is None else (state,)
    if state is not None and state not in set(DeliveryState):
        raise InvalidInput("state", f"must be one of {', '.join(DeliveryState)} (got {state!r})")
    chosen = tuple(DeliveryState(each) for each in states)
    if what is None:
        return client.store.deliveries(states=chosen, limit=limit)
    found = find(client, what)
    if isinstance(found, Job):
        return client.store.deliveries(job_id=found.id, states=chosen, limit=limit)
    return client.store.deliveries(batch_id=found.id, states=chosen, limit=limit)


def _cells(each: "Delivery") -> list[str]:
    from jobs.webhooks import shown_url

    outcome = each.error or (f"answered {each.response_status}" if each.response_status else "")
    return [
        str(each.id),
        f"[{COLOURS[each.state]}]{each.state}[/]",
        each.event,
        str(each.attempts),
        escape(shown_url(each.url)),
        escape(outcome),
    ]


@app.command(
    epilog=examples(
        "edict webhooks resend 0199e0c4-5b1e-7c3a-9d2f-3f6f1f1f2a10",
        "edict webhooks resend --failed",
    )
)
def resend(
    deliveries: Annotated[
        list[UUID] | None, typer.Argument(metavar="[DELIVERY]", help="Ids, as the list shows them.")
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="All that were given up, and these too.")
    ] = False,
    json: Json = False,
    home: Home = None,
) -> None:
    """Send deliveries again, whatever became of them; the control process does it."""
    from jobs.errors import InvalidInput, NotFound
    from producer.cli.services import open_client

    if not deliveries and not failed:
        raise InvalidInput("delivery", "none is named; give ids, or --failed for all given up")
    with open_client(home) as client:
        count = client.store.resend(deliveries or [])
        if count < len(set(deliveries or [])):
            raise NotFound(
                f"there are {count} of these {len(set(deliveries or []))} deliveries, which are "
                "sent again; `edict webhooks list` shows what there is"
            )
        if failed:
            count += client.store.resend_failed()
    if json:
        print_data({"resent": count})
    else:
        out.print(f"{count} to be sent again", highlight=False)


@app.command(epilog=examples("export EDICT_WEBHOOK_SECRET=$(edict webhooks secret)"))
def secret(json: Json = False) -> None:
    """Print a new secret to sign with: for `edict control` and for the receiver."""
    from producer.webhooks.signing import new_secret

    if json:
        print_data({"secret": new_secret()})
    else:
        typer.echo(new_secret())
