"""`edict reproduce`: a result again from its own metadata, and whether it is the same."""

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from producer.cli.options import Home, OneObject, examples
from producer.cli.output import err, out

if TYPE_CHECKING:
    from jobs.records import Job

EXAMPLES = examples(
    "edict reproduce fruit-edited/0001-blue-lemons-3f6f1f1f.png",
    "edict reproduce blue-lemons.png --source lemons.jpg",
)


def reproduce(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A result, as `edict results` wrote it.")
    ],
    source: Annotated[
        str | None,
        typer.Option(
            "--source", metavar="IMAGE", help="The original, where it is not in the bucket now."
        ),
    ] = None,
    json: OneObject = False,
    home: Home = None,
) -> None:
    """Make a result again from the recipe in its own metadata, and compare.

    A worker must serve the model. Ends with 0 only if every pixel is the same.
    """
    from jobs.errors import InvalidInput
    from jobs.result_files import read_recipe
    from producer.cli.services import open_client
    from producer.reproduce import reproduce

    try:
        data = file.read_bytes()
    except OSError as error:
        raise InvalidInput("file", f"{file} cannot be read: {error.strerror}") from None
    recipe = read_recipe(data, str(file))
    with open_client(home) as client, err.status("waiting for a worker …") as shown:

        def on_look(job: "Job") -> None:
            shown.update(f"{job.state} {job.progress or 0:.0%}")

        verdict = reproduce(client, recipe, data, source=source, on_look=on_look)
    if json:
        out.print_json(json_module.dumps(verdict.as_json()))
    else:
        colour = "green" if verdict.same_pixels else "yellow"
        out.print(f"[{colour}]{escape(str(verdict))}[/]", highlight=False, soft_wrap=True)
    raise typer.Exit(0 if verdict.same_pixels else 1)
