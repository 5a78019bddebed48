"""`edict export`: a batch's results in the shapes that training code reads."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from producer.cli.options import Approved, Home, TheBatch, examples
from producer.cli.output import complain, err, out, say

if TYPE_CHECKING:
    from producer.export import ExportReport

EXAMPLES = examples(
    "edict export fruit --to fruit-set",
    "edict export fruit --to fruit-set --format parquet --where 'psnr>=20'",
    "edict export fruit --to s3://photos/sets/fruit --format webdataset",
    "edict export fruit --to fruit-doubtful --flagged only",
    "edict export fruit --to chosen --approved",
)

Target = Annotated[
    str, typer.Option("--to", metavar="FOLDER|s3://…", help="Where to; made if missing.")
]
Form = Annotated[
    str, typer.Option("--format", metavar="files|jsonl|parquet|webdataset", help="In what shape.")
]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="FIGURE>=X", help="Only results like this. Repeatable."),
]
WhatFlagged = Annotated[
    str,
    typer.Option(
        "--flagged",
        metavar="without|with|only",
        help="Results that fall short of the batch's gate: leave out, take too, take alone.",
    ),
]
Figures = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]


def export(
    batch: TheBatch,
    to: Target,
    form: Form = "files",
    where: Where = None,
    flagged: WhatFlagged = "without",
    approved: Approved = False,
    json: Figures = False,
    home: Home = None,
) -> None:
    """Export originals, results, prompts and figures. Run it again to go on, or to add what is new.

    Ends with 0 unless a result could not be read.
    """
    from jobs.errors import InvalidInput
    from producer.cli.services import open_client
    from producer.export import Condition, Flagged, open_target, run_export

    filters = [Condition.parse(each) for each in where or []]
    if flagged not in set(Flagged):
        raise InvalidInput("flagged", f"{flagged!r} is none of {', '.join(Flagged)}")
    with open_client(home) as client, err.status("exporting") as status:

        def look(report: "ExportReport") -> None:
            status.update(f"{report.written} written, {report.kept} there before")

        found = client.store.batch(batch)
        report = run_export(
            client.store,
            client.objects,
            found,
            open_target(to, client.objects),
            form,
            filters,
            max_bytes=client.settings.max_source_bytes,
            flagged=Flagged(flagged),
            approved=approved,
            look=look,
        )
    _tell(report, to, as_json=json)
    raise typer.Exit(1 if report.missing_count else 0)


def _tell(report: "ExportReport", to: str, *, as_json: bool) -> None:
    for each in report.missing:
        complain(f"left out: {each}")
    if report.missing_count:
        say(f"{report.missing_count} results could not be read; run the same again to add them")
    if report.closed:
        say(
            f"{len(report.closed)} parts hold results that were pruned since and stay as they are; "
            "what has come to their jobs since is in none: export to another place for that"
        )
    if report.flagged:
        say(
            f"{report.flagged} flagged by the batch's gate were left out; --flagged with takes them"
        )
    if as_json:
        figures = ("written", "kept", "left_out", "flagged", "missing_count")
        shown = {name: getattr(report, name) for name in figures}
        out.print_json(data={**shown, "closed": len(report.closed)})
        return
    out.print(
        f"{report.written} written, {report.kept} there before, {report.left_out} not asked for · "
        f"{escape(to)}",
        highlight=False,
        soft_wrap=True,
    )
