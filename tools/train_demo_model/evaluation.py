"""Figures on photographs that the model never saw, and on photographs unlike any it saw.

Nothing is chosen: which photographs, which colours and which seeds follow from the recipe.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from pydantic import BaseModel, ConfigDict

from . import masks, measures, styles
from .captions import BARE, Subject, instruction
from .dataset import Pixels, centre_crop, other_colours
from .editing import ONE_EDIT, ROWS, Editing, Request, RoundTrip, edit_all
from .inputs import Input
from .measures import Picture, Rate, to_picture
from .photographs import Photograph
from .recipe import Recipe

STYLES = tuple(styles.RENDER)


class Frozen(BaseModel):
    """A record of figures that is written as JSON."""

    model_config = ConfigDict(frozen=True)


class StyleFigures(Frozen):
    """One style: how often the measure says yes after the edit, and without any edit."""

    edited: Rate
    unedited: Rate
    layout: float


class ColourFigures(Frozen):
    """Colour edits, likewise; `inside` and `outside` are mean changes on and off the object."""

    edited: Rate
    unedited: Rate
    layout: float
    inside: float
    outside: float


class Figures(Frozen):
    """All that is measured."""

    vae_psnr: float
    vae_psnr_worst_tenth: float
    photographs: int
    round_trips: int
    errors: RoundTrip
    colour: ColourFigures
    #: The same edits with the photograph's own pixels around the mask.
    colour_kept: ColourFigures
    #: The same edits without a mask.
    colour_everywhere: ColourFigures
    styles: dict[str, StyleFigures]
    unseen: dict[str, StyleFigures]
    #: Edge correlation of each original with another one: what a layout that is lost looks like.
    layout_of_others: float
    seconds_per_edit: float
    seconds_per_local_edit: float


@dataclass(frozen=True)
class Case:
    """One held-out photograph, ready to be edited; `mask` and `colour` where it has an object."""

    pixels: Pixels
    subject: Subject
    thing: masks.Object | None
    mask: Picture
    colour: str


def held_out_cases(photographs: Sequence[Photograph], recipe: Recipe, count: int) -> list[Case]:
    """Take `count` held-out photographs in an order that only their names decide."""
    held_out = [photo for photo in photographs if photo.held_out(recipe.held_out)]
    order = sorted(held_out, key=lambda photo: sha256(f"case {photo.name}".encode()).digest())
    return [_case(photo, recipe) for photo in order[:count]]


def _case(photo: Photograph, recipe: Recipe) -> Case:
    picture = photo.open()
    thing = masks.find(picture, photo.kind)
    cut = centre_crop(picture, recipe.size)
    if thing is None:
        subject = Subject(photo.kind, photo.kind.colour)
        return Case(np.asarray(cut), subject, None, np.zeros((1, 1), np.float32), "")
    mask = np.asarray(centre_crop(thing.mask, recipe.size), np.float32) / np.float32(255)
    # A fruit can bear a name of colour that its pixels are far from: it is no edit to ask for that.
    choices = [colour for colour in other_colours(thing) if colour != thing.colour]
    colour = choices[sha256(f"colour {photo.name}".encode()).digest()[0] % len(choices)]
    return Case(np.asarray(cut), Subject(photo.kind, thing.colour), thing, mask, colour)


def request_of(case: Case) -> Request:
    """Ask for every style, and for a colour where there is an object to give it to.

    The colour is asked for three times: everywhere, kept to the mask that is found, and with the
    photograph's own pixels around that mask.
    """
    styled = [instruction(style, case.subject) for style in STYLES]
    coloured: list[str] = []
    if case.thing is not None:
        coloured.append(instruction("photo", Subject(case.subject.kind, case.colour)))
    base = instruction("photo", case.subject)
    return Request(case.pixels, base, [*styled, *coloured], local=coloured, kept=coloured)


def style_figures(
    originals: Sequence[Picture], edits: Sequence[list[Pixels]]
) -> dict[str, StyleFigures]:
    """Judge the style edits, which come first and in the order of `STYLES`."""
    figures = {}
    for index, style in enumerate(STYLES):
        after = [to_picture(made[index]) for made in edits]
        pairs = list(zip(originals, after, strict=True))
        figures[style] = StyleFigures(
            edited=Rate.of([measures.style_is(style, a, b) for a, b in pairs]),
            unedited=Rate.of([measures.style_is(style, a, a) for a in originals]),
            layout=float(np.mean([measures.layout_kept(a, b) for a, b in pairs])),
        )
    return figures


def colour_figures(
    cases: Sequence[Case], edits: Sequence[list[Pixels]], place: int
) -> ColourFigures:
    """Judge the colour edits, which are at a `place` of each picture's edits if there are any."""
    judged = [
        (case, to_picture(case.pixels), to_picture(made[place]))
        for case, made in zip(cases, edits, strict=True)
        if case.thing is not None
    ]
    if not judged:
        raise ValueError(
            f"none of the {len(cases)} photographs shows an object that can be told from its "
            "background: raise --count"
        )
    return ColourFigures(
        edited=Rate.of([measures.colour_is(b, case.mask, case.colour) for case, _, b in judged]),
        unedited=Rate.of([measures.colour_is(a, case.mask, case.colour) for case, a, _ in judged]),
        layout=float(np.mean([measures.layout_kept(a, b) for _, a, b in judged])),
        inside=float(np.mean([measures.change(a, b, case.mask) for case, a, b in judged])),
        outside=float(np.mean([measures.change(a, b, 1 - case.mask) for case, a, b in judged])),
    )


def unseen_request(example: Input) -> Request:
    """Ask for every style of a picture whose kind the model has no word for."""
    return Request(example.pixels, BARE["photo"], [BARE[style] for style in STYLES])


def layout_of_others(originals: Sequence[Picture]) -> float:
    """Compare each original with the next one."""
    pairs = zip(originals, [*originals[1:], originals[0]], strict=True)
    return float(np.mean([measures.layout_kept(a, b) for a, b in pairs]))


def mean_errors(trips: Sequence[RoundTrip]) -> RoundTrip:
    """Average each method's error."""
    names = RoundTrip.__dataclass_fields__
    return RoundTrip(*(float(np.mean([getattr(trip, name) for trip in trips])) for name in names))


def seconds_of(work: Callable[[], object]) -> float:
    """Time one call after a first one that warms up."""
    work()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def edit_cases(
    editing: Editing, cases: Sequence[Case], tick: Callable[[int], None]
) -> list[list[Pixels]]:
    """Make all edits of all cases."""
    return edit_all(editing, [request_of(case) for case in cases], tick)


def round_trips(
    editing: Editing, cases: Sequence[Case], tick: Callable[[int], None]
) -> list[RoundTrip]:
    """Reconstruct by every method, several pictures at a time."""

    def one(case: Case) -> RoundTrip:
        trip = editing.round_trip(case.pixels, instruction("photo", case.subject))
        tick(1)
        return trip

    with ThreadPoolExecutor(ROWS // ONE_EDIT) as pool:
        return list(pool.map(one, cases))
