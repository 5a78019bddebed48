"""`edict gallery`: a batch as one HTML file to send to somebody."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from producer.cli.options import Home, examples
from producer.cli.output import out

EXAMPLES = examples(
    "edict gallery fruit --out fruit.html",
    "edict gallery fruit --out chosen.html --approved",
)
MAX_JOBS = 2_000
"""All images are inside the file: browsers do not bear more."""


def gallery(
    batch: Annotated[str, typer.Argument(metavar="BATCH", help="Its name or id.")],
    to: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write it.")],
    approved: Annotated[
        bool, typer.Option("--approved", help="Only what was approved in the dashboard.")
    ] = False,
    home: Home = None,
) -> None:
    """Write originals, reconstructions and edits of a batch as one file that needs nothing else."""
    from jobs.errors import InvalidInput
    from jobs.filters import JobFilter
    from jobs.marks import Verdict
    from jobs.states import State
    from producer.cli.services import open_client
    from producer.gallery import Summary, write_gallery

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
        write_gallery(to, jobs, client.objects, summary, max_source_bytes=limit)
    out.print(f"{len(jobs)} results · {escape(str(to))}", highlight=False, soft_wrap=True)
