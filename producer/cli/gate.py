"""`edict gate`: which results of a batch are doubtful."""

from typing import Annotated

import typer
from rich.markup import escape

from producer.cli.options import Home, Json, TheBatch, examples
from producer.cli.output import out

EXAMPLES = examples(
    "edict gate fruit",
    "edict gate fruit --set 'psnr>=18' --set 'mask_area<=0.6'",
    "edict gate fruit --clear",
)


def gate(
    batch: TheBatch,
    conditions: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIGURE>=X", help="Have this gate instead. Repeatable."),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Have no gate any more.")] = False,
    json: Json = False,
    home: Home = None,
) -> None:
    """Show or set a batch's gate. Results with a figure that falls short of it are flagged.

    Figures: exact, max_error, psnr, similarity (SSIM to the source), mask_area. A figure that was
    not measured falls short of nothing. `edict export` leaves flagged results out.
    """
    from jobs.errors import InvalidInput
    from producer.cli.services import open_client

    if conditions and clear:
        raise InvalidInput("gate", "--set and --clear exclude each other; give one of them")
    with open_client(home) as client:
        found = client.store.batch(batch)
        if conditions or clear:
            client.store.set_gate(found.id, conditions or ())
        stands = client.store.gate_of(found.id)
        flagged = client.store.flagged_of(found.id)
    if json:
        out.print_json(data={"gate": list(stands), "flagged": flagged})
        return
    text = " and ".join(stands) or "no gate"
    out.print(f"{escape(text)} · {flagged} flagged", highlight=False)
