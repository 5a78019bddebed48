"""Held-out photographs as `edict eval` reads them: `python -m tools.train_demo_model.held_out`.

Leaves in a folder `photographs`, a text file with its caption beside each, and `edits.jsonl` with
one edit of each: a colour for every other photograph whose object is told from its background, and
the styles in turn for the rest. The folder shows photographs of the data sets: it does not belong
in a repository.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from .captions import Subject, instruction
from .evaluation import STYLES, Case, held_out_cases
from .photographs import find_photographs
from .recipe import Recipe

MANIFEST = "edits.jsonl"
PHOTOGRAPHS, MASKS = "photographs", "masks"


def write(cases: Sequence[Case], folder: Path) -> None:
    """Write all `cases` into `folder`, which is made."""
    for part in (PHOTOGRAPHS, MASKS):
        (folder / part).mkdir(parents=True, exist_ok=True)
    rows = [_write(case, index, folder) for index, case in enumerate(cases)]
    (folder / MANIFEST).write_text("".join(json.dumps(row) + "\n" for row in rows))


def _write(case: Case, index: int, folder: Path) -> dict[str, str]:
    """Write one photograph; return its row of the manifest."""
    image = f"{PHOTOGRAPHS}/{index:03d}.png"
    base = instruction("photo", case.subject)
    Image.fromarray(case.pixels).save(folder / image)
    (folder / image).with_suffix(".txt").write_text(base + "\n")
    row = {"image": image, "base_prompt": base}
    if case.thing is None or index % 2:
        return row | {"edit_prompt": instruction(STYLES[index // 2 % len(STYLES)], case.subject)}
    mask = f"{MASKS}/{index:03d}.png"
    Image.fromarray((case.mask * 255).round().astype(np.uint8)).save(folder / mask)
    coloured = instruction("photo", Subject(case.subject.kind, case.colour))
    return row | {"edit_prompt": coloured, "mask": mask}


def main(
    groceries: Annotated[
        Path, typer.Option(help="`dataset` of marcusklasson/GroceryStoreDataset.")
    ],
    clothing: Annotated[
        Path, typer.Option(help="A copy of alexeygrigorev/clothing-dataset-small.")
    ],
    out: Annotated[Path, typer.Option(help="The folder to write; outside of the repository.")],
    recipe: Annotated[Path | None, typer.Option(help="JSON of what differs.")] = None,
    count: Annotated[int, typer.Option(help="How many photographs.")] = 100,
) -> None:
    """Write held-out photographs, captions and one edit of each."""
    cases = held_out_cases(find_photographs(groceries, clothing), Recipe.read(recipe), count)
    write(cases, out)
    typer.echo(f"{len(cases)} photographs and {MANIFEST} in {out}")


if __name__ == "__main__":
    typer.run(main)
