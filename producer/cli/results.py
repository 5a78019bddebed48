"""`edict results`: images of finished jobs into a folder."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from producer.cli.options import Home, Json, examples
from producer.cli.output import out, print_data, say

EXAMPLES = examples(
    "edict results fruit --to fruit-edited",
    "edict results 0199e0c4-5b1e-7c3a-9d2f-3f6f1f1f2a10 --to .",
)


def results(
    what: Annotated[
        str, typer.Argument(metavar="BATCH|JOB", help="A batch's name or id, or a job's id.")
    ],
    to: Annotated[
        Path,
        typer.Option("--to", "--out", metavar="FOLDER", help="Where to; made if it is missing."),
    ],
    json: Json = False,
    home: Home = None,
) -> None:
    """Download the images of jobs that succeeded, and results.jsonl, which tells what is what.

    Each image has its recipe in its metadata, and in a .json file beside it. Images that are there
    already are kept. Ends with 0 only if every job has succeeded.
    """
    from jobs.records import Job
    from jobs.states import State
    from producer.cli.services import open_client
    from producer.cli.status import find
    from producer.downloads import SIDECAR, download

    with open_client(home) as client:
        found = find(client, what)
        jobs = [found] if isinstance(found, Job) else client.store.jobs_of(found.id)
        done = download(jobs, client.objects, to)
        client.store.mark_exported([each.job.id for each in done if each.file is not None])
    fetched = sum(each.fetched for each in done)
    kept = sum(each.file is not None for each in done) - fetched
    missing = sum(each.job.state != State.SUCCEEDED for each in done)
    if json:
        figures = {"downloaded": fetched, "kept": kept, "missing": missing}
        print_data({**figures, "list": str(to / SIDECAR)})
    else:
        told = f"{fetched} downloaded, {kept} there before · {escape(str(to / SIDECAR))}"
        out.print(told, highlight=False, soft_wrap=True)
    if missing:
        say(f"{missing} of {len(done)} jobs have not succeeded: `edict status {escape(what)}`")
    raise typer.Exit(1 if missing else 0)
