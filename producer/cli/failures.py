"""`edict failures`: the dead-letter list, by error and one by one."""

import json as js
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from jobs.filters import JobFilter
from jobs.states import State
from producer.cli import options
from producer.cli.options import Home, examples
from producer.cli.output import out, say, table

if TYPE_CHECKING:
    from jobs.records import Job

EXAMPLES = examples(
    "edict failures                       [dim]of all batches[/]",
    "edict failures fruit --code source_changed",
    "edict failures --json | jq -r '.jobs[].id'",
    "edict job 0199e0c4-5b1e-7c3a-9d2f-3f6f1f1f2a10      [dim]everything of one of them[/]",
)


def failures(
    batch: options.AnyBatch = None,
    code: options.Code = None,
    kind: options.Kind = None,
    model: options.OfModel = None,
    prompt: options.Says = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="List so many, the last to fail first.")
    ] = 50,
    json: options.Json = False,
    home: Home = None,
) -> None:
    """List the jobs that failed for good, and why. `edict retry` tries them again."""
    from producer.cli.services import open_client

    with open_client(home) as client:
        which = JobFilter(
            batch=None if batch is None else client.store.batch(batch).id,
            states=(State.FAILED,),
            kind=kind,
            code=code,
            model=model,
            prompt=prompt,
        )
        codes = client.store.codes(which)
        jobs = client.failures(which, limit=limit)
    if json:
        _print_json(codes, jobs)
    else:
        _print_tables(codes, jobs)


def _print_json(codes: dict[str, int], jobs: "list[Job]") -> None:
    from producer.plain import plain_job

    listed = {
        "total": sum(codes.values()),
        "codes": codes,
        "jobs": [plain_job(job) for job in jobs],
    }
    out.print_json(js.dumps(listed))


def _print_tables(codes: dict[str, int], jobs: "list[Job]") -> None:
    if not jobs:
        say("no job has failed")
        return
    by_code = table("error", "jobs")
    for code, count in codes.items():
        by_code.add_row(escape(code), str(count))
    listed = table("job", "kind", "failed", "tries", "error")
    for job in jobs:
        when = job.finished_at.strftime("%Y-%m-%d %H:%M:%S") if job.finished_at else ""
        error = f"{job.error_code}: {job.error_message}"
        listed.add_row(str(job.id), job.kind, when, str(job.attempts), escape(error))
    out.print(by_code)
    out.print()
    out.print(listed)
    if (rest := sum(codes.values()) - len(jobs)) > 0:
        say(f"… and {rest} more: --limit, or narrow it down with --code")
