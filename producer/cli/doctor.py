"""`edict doctor`: what is wrong, and what to do about it."""

import typer
from rich.markup import escape

from producer.cli.options import Home, Json, examples
from producer.cli.output import out, print_data

EXAMPLES = examples(
    "edict doctor",
    "edict doctor --home /srv/edict        [dim]the embedded stack of that folder[/]",
)


def doctor(json: Json = False, home: Home = None) -> None:
    """Check the database, Redis, the bucket, the workers and the models.

    Ends with 1 if anything is wrong.
    """
    import logging

    from jobs.logs import configure_logging
    from jobs.settings import load_settings
    from producer.checks import examine

    configure_logging(logging.ERROR)
    findings = examine(load_settings(home))
    if json:
        print_data([vars(each) for each in findings])
        raise typer.Exit(0 if all(each.good for each in findings) else 1)
    width = max(len(each.name) for each in findings)
    for each in findings:
        mark = "[green]ok [/]" if each.good else "[bold red]bad[/]"
        line = f"{mark}  [bold]{each.name:{width}}[/]  {escape(each.detail)}"
        out.print(line, highlight=False, soft_wrap=True)
    raise typer.Exit(0 if all(each.good for each in findings) else 1)
