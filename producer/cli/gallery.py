"""`edict gallery`: a batch as one HTML file to send to somebody."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from producer.cli.options import Approved, Home, Json, TheBatch, examples
from producer.cli.output import out, print_data

EXAMPLES = examples(
    "edict gallery fruit --out fruit.html",
    "edict gallery fruit --out chosen.html --approved --thumbnails",
)
MAX_JOBS = 2_000
"""All images are inside the file: browsers do not bear more."""


def gallery(
    batch: TheBatch,
    to: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write it.")],
    approved: Approved = False,
    thumbnails: Annotated[
        bool, typer.Option("--thumbnails", help="Small pictures, for a file that mail takes.")
    ] = False,
    json: Json = False,
    home: Home = None,
) -> None:
    """Write originals, reconstructions and edits of a batch as one file that needs nothing else."""
    from jobs.errors import InvalidInput
    from jobs.filters import JobFilter
    from jobs.marks import Verdict
    from jobs.states import State
    from producer.cli.services import open_client
    from producer.gallery import SMALL, WHOLE, Summary, write_gallery

    with open_client(home) as client:
        found = client.store.batch(batch)
        which = JobFilter(
            batch=found.id,
            states=(State.SUCCEEDED,),
            mark=Verdict.APPROVED if approved else None,
        )
        jobs = client.store.find(which, limit=MAX_JOBS + 1)
        if not jobs:
            raise InvalidInput("batch", f"{batch!r:.200} has no such results yet")
        if len(jobs) > MAX_JOBS:
            raise InvalidInput(
                "batch", f"has over {MAX_JOBS} results, too many for one page; see `edict serve`"
            )
        summary = Summary(found.name or str(found.id), [(str(len(jobs)), "results")])
        limit = client.settings.max_source_bytes
        roles = SMALL if thumbnails else WHOLE
        write_gallery(to, jobs, client.objects, summary, max_source_bytes=limit, roles=roles)
    if json:
        print_data({"file": str(to), "results": len(jobs)})
        return
    out.print(f"{len(jobs)} results · {escape(str(to))}", highlight=False, soft_wrap=True)
