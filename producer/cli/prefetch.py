"""`edict prefetch`: weights into the cache, before workers want them."""

import json as js
from importlib import import_module
from typing import Annotated

import typer
from rich.markup import escape

from producer.cli.options import Home, Json, examples
from producer.cli.output import out
from producer.cli.worker import check_installed

EXAMPLES = examples(
    "edict prefetch                       [dim]all models of EDICT_MODELS[/]",
    "edict prefetch stable-diffusion-v1-5/stable-diffusion-v1-5@39593d5",
)


def prefetch(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="demo, a folder, or a hub id; @REVISION pins."),
    ] = None,
    json: Json = False,
    home: Home = None,
) -> None:
    """Download the weights of models, and check that a worker could load them.

    They go where Hugging Face keeps its cache: HF_HOME, if it is set.
    """
    from jobs.settings import load_settings

    check_installed()
    wanted = tuple(models or load_settings(home).models)
    found = []
    for each in import_module("worker.prefetch").prefetch(wanted):
        found.append({"model": each.model, "revision": each.revision, "folder": str(each.folder)})
        if not json:
            line = f"[bold]{escape(each.model)}[/] at {each.revision} in {escape(str(each.folder))}"
            out.print(line, highlight=False, soft_wrap=True)
    if json:
        out.print_json(js.dumps(found))
