"""`edict keys`: who may use the HTTP API."""

import json as json_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from producer.cli.options import Home, Json, examples
from producer.cli.output import out, print_data, say, table

if TYPE_CHECKING:
    from jobs.access import ApiKey

app = typer.Typer(
    help="Make, list and revoke keys of the HTTP API.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog=examples(
        "edict keys create ci --scope submit --days 90",
        "edict keys list",
        "edict keys revoke ci",
    ),
)

NewName = Annotated[str, typer.Argument(metavar="NAME", help="What it is for; used once.")]
ScopeName = Annotated[
    str,
    typer.Option(
        "--scope",
        metavar="read|submit|admin",
        help="Look; make jobs, too; cancel, retry and pause, too.",
    ),
]
Days = Annotated[
    float | None, typer.Option("--days", min=0, help="Until it expires. Default: never.")
]
Tenant = Annotated[
    str | None,
    typer.Option(
        "--tenant", metavar="NAME", help="See and make that tenant's jobs only. Default: all."
    ),
]
MaxRequests = Annotated[
    int | None, typer.Option("--max-requests", min=1, help="Requests a minute.")
]
MaxLive = Annotated[
    int | None, typer.Option("--max-live", min=1, help="Jobs that have not ended, at once.")
]
MaxJobs = Annotated[
    int | None, typer.Option("--max-jobs", min=1, help="Jobs submitted in 24 hours.")
]
MaxBytes = Annotated[
    int | None, typer.Option("--max-bytes", min=1, help="Bytes of images in 24 hours.")
]

_MAX_DAYS = 36_500


@app.command(
    epilog=examples(
        "edict keys create ci --scope submit --days 90",
        "KEY=$(edict keys create dashboard)",
        "edict keys create acme-backend --tenant acme --scope admin --max-jobs 5000",
    )
)
def create(
    name: NewName,
    scope: ScopeName = "read",
    days: Days = None,
    tenant: Tenant = None,
    max_requests: MaxRequests = None,
    max_live: MaxLive = None,
    max_jobs: MaxJobs = None,
    max_bytes: MaxBytes = None,
    json: Json = False,
    home: Home = None,
) -> None:
    """Make a key and print it: only now, it is stored as a digest."""
    from datetime import timedelta

    from jobs.access import Quota, Scope
    from jobs.errors import InvalidInput
    from jobs.store.base import utc_now
    from producer.cli.services import open_client

    if scope not in set(Scope):
        raise InvalidInput("scope", f"must be one of {', '.join(Scope)} (got {scope!r})")
    if days == 0:
        raise InvalidInput("days", "is 0, and the key would never work; give more, or leave it out")
    if days is not None and days > _MAX_DAYS:
        raise InvalidInput("days", f"{days:g} is over the limit of {_MAX_DAYS}")
    expires = None if days is None else utc_now() + timedelta(days=days)
    with open_client(home) as client:
        key = client.store.make_api_key(
            name,
            Scope(scope),
            expires_at=expires,
            tenant=tenant,
            quota=Quota(max_requests, max_live, max_jobs, max_bytes),
        )
    if json:
        print_data({"name": name, "key": key})
    else:
        typer.echo(key)
    say("keep it: it is not shown again")


@app.command("list", epilog=examples("edict keys list", "edict keys list --json"))
def list_(json: Json = False, home: Home = None) -> None:
    """Show the keys, oldest first; never what they are."""
    from jobs.store.base import utc_now
    from producer.cli.services import open_client
    from producer.plain import moment

    with open_client(home) as client:
        found = client.store.api_keys()
    if json:
        out.print_json(json_module.dumps([_plain(key) for key in found]))
        return
    listed = table("key", "scope", "tenant", "made", "expires", "state")
    for key in found:
        state = "live" if key.is_live(utc_now()) else "revoked" if key.revoked_at else "expired"
        times = (moment(key.created_at), moment(key.expires_at))
        listed.add_row(
            escape(key.name),
            key.scope,
            key.tenant or "",
            *(time or "never" for time in times),
            state,
        )
    out.print(listed)


def _plain(key: "ApiKey") -> dict[str, Any]:
    from jobs.store.base import utc_now
    from producer.plain import moment

    return {
        "name": key.name,
        "scope": key.scope.value,
        "tenant": key.tenant,
        "quota": vars(key.quota),
        "created": moment(key.created_at),
        "expires": moment(key.expires_at),
        "revoked": moment(key.revoked_at),
        "live": key.is_live(utc_now()),
    }


@app.command(epilog=examples("edict keys revoke ci"))
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As the list shows it.")],
    json: Json = False,
    home: Home = None,
) -> None:
    """Let a key open nothing any more, from the next request on."""
    from producer.cli.services import open_client

    with open_client(home) as client:
        client.store.revoke_api_key(name)
    if json:
        print_data({"name": name, "revoked": True})
    else:
        out.print(f"{escape(name)} is revoked", highlight=False)
