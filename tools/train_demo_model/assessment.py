"""The evaluation as a stage: measure the finished folder, write figures, grid and model card."""

from pathlib import Path

import numpy as np
import torch

from . import card, evaluation, grid, measures, vae
from .editing import ONE_EDIT, ROWS, Editing, Request, Settings, edit_all, open_editing
from .evaluation import Case, Figures
from .files import replaced
from .foreign import AutoencoderKL
from .inputs import demo_inputs
from .measures import to_picture
from .photographs import Photograph
from .recipe import Recipe
from .stages import Workplace, is_exported, progress

#: Round trips by three methods take longer than edits; their mean needs fewer.
ROUND_TRIPS = 32


def evaluate(
    place: Workplace, photographs: list[Photograph], model: Path, count: int, settings: Settings
) -> Figures:
    """Measure the model and leave `figures.json`, `grid.png` and `MODEL_CARD.md` in its folder."""
    if not is_exported(place, model):
        raise FileNotFoundError(f"no model in {model}: run the stage `export` first")
    cases = evaluation.held_out_cases(photographs, place.recipe, count)
    everything = evaluation.held_out_cases(photographs, place.recipe, len(photographs))
    scores = vae_scores(model, everything, place.device)
    with open_editing(model, settings, str(place.device), ROWS) as editing:
        figures = measure(editing, cases, place.recipe, scores)
        rows = [*grid.sampled_rows(model), *grid.input_rows(demo_inputs(place.recipe.size))]
        made = edit_all(editing, [row.request for row in rows], lambda _: None)
    with open_editing(model, settings, str(place.device), ONE_EDIT) as alone:
        seconds, local = time_one_edit(alone, cases[0])
    update = {"seconds_per_edit": seconds, "seconds_per_local_edit": local}
    figures = figures.model_copy(update=update)
    _write(figures, place.recipe, settings, model)
    grid.draw(rows, made).save(model / "grid.png", optimize=True)
    return figures


def measure(editing: Editing, cases: list[Case], recipe: Recipe, scores: list[float]) -> Figures:
    """Edit and judge; the time of an edit is left to be measured alone."""
    originals = [to_picture(case.pixels) for case in cases]
    with progress("edits", len(cases)) as tick:
        edits = evaluation.edit_cases(editing, cases, tick)
    some = cases[:ROUND_TRIPS]
    with progress("round trips", len(some)) as tick:
        trips = evaluation.round_trips(editing, some, tick)
    inputs = demo_inputs(recipe.size)
    unseen = edit_all(editing, [evaluation.unseen_request(i) for i in inputs], lambda _: None)
    return Figures(
        vae_psnr=float(np.mean(scores)),
        vae_psnr_worst_tenth=float(np.mean(sorted(scores)[: max(1, len(scores) // 10)])),
        photographs=len(scores),
        round_trips=len(some),
        errors=evaluation.mean_errors(trips),
        colour=evaluation.colour_figures(cases, edits, place=-2),
        colour_kept=evaluation.colour_figures(cases, edits, place=-1),
        colour_everywhere=evaluation.colour_figures(cases, edits, place=-3),
        styles=evaluation.style_figures(originals, edits),
        unseen=evaluation.style_figures([to_picture(i.pixels) for i in inputs], unseen),
        layout_of_others=evaluation.layout_of_others(originals),
        seconds_per_edit=0.0,
        seconds_per_local_edit=0.0,
    )


@torch.no_grad()
def vae_scores(model: Path, cases: list[Case], device: torch.device) -> list[float]:
    """PSNR of the autoencoder alone on each photograph."""
    network = AutoencoderKL.from_pretrained(model / "vae", dtype=torch.float32).to(device)
    scores = []
    for case in cases:
        latent = network.encode(vae.to_tensor(case.pixels[None]).to(device)).latent_dist.mode()
        made = vae.to_pixels(network.decode(latent).sample)[0]
        scores.append(measures.psnr(to_picture(case.pixels), to_picture(made)))
    return scores


def time_one_edit(editing: Editing, case: Case) -> tuple[float, float]:
    """Time an inversion and one edit: everywhere, and kept to the mask that is found."""
    request = evaluation.request_of(case)
    everywhere = Request(request.pixels, request.base, request.targets[:1])
    local = Request(request.pixels, request.base, [], local=request.targets[:1])
    return (
        evaluation.seconds_of(lambda: editing.edit(everywhere)),
        evaluation.seconds_of(lambda: editing.edit(local)),
    )


def _write(figures: Figures, recipe: Recipe, settings: Settings, model: Path) -> None:
    size = sum(path.stat().st_size for path in model.rglob("*.safetensors"))
    texts = {
        "figures.json": figures.model_dump_json(indent=2) + "\n",
        "MODEL_CARD.md": card.write(figures, recipe, settings, size),
    }
    for name, text in texts.items():
        with replaced(model / name) as path:
            path.write_text(text, encoding="utf-8")
