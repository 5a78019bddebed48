"""The methods that are compared, and what each does to given images.

Images are worked on in as many threads as fill the engine's batches, one method after the other,
so that a method's seconds are its own. What fails is kept, by name, and stops nothing else.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from PIL import Image

from edict_engine.editor import Editor
from edict_engine.errand import ShouldStop
from edict_engine.errors import Cancelled, EngineClosed, EngineError
from edict_engine.images import to_image, to_pixels
from edict_engine.parameters import SamplerParameters
from edict_engine.samplers import SAMPLERS

T = TypeVar("T")
R = TypeVar("R")

#: The VAE's own round trip: no sampler at all, what all of them are measured against.
VAE = "vae"
#: DDIM inversion under the prompt and guidance of the others, and under neither.
CONDITIONAL, UNCONDITIONAL = "ddim-c", "ddim-uc"


@dataclass(frozen=True)
class Method:
    """One line of a comparison; ``parameters`` is None for the VAE alone.

    Without ``prompted`` the prompt is empty and the guidance 1.
    """

    name: str
    parameters: SamplerParameters | None = None
    prompted: bool = True

    @property
    def rows(self) -> int:
        """Batch rows that one image takes at a time."""
        return 1 if self.parameters is None or self.parameters.guidance == 1 else 2


@dataclass(frozen=True)
class Failure:
    """An image that a method, or the reading, could not do."""

    name: str
    message: str
    method: str | None = None


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """What a method made of the images: results in their order, failures, and its seconds."""

    method: Method
    results: tuple[R, ...]
    failures: tuple[Failure, ...]
    seconds: float


@dataclass(frozen=True)
class Returned:
    """An image that went to noise and back. ``exact`` and ``max_error`` are the latent's."""

    image: Image.Image
    exact: bool
    max_error: float


def round_trips(parameters: SamplerParameters) -> list[Method]:
    """Return the VAE and every sampler that inverts, with ``parameters``; DDIM in two ways."""
    methods = [Method(VAE)]
    for name, sampler in SAMPLERS.items():
        own = replace(parameters, sampler=name)
        if name == "ddim":
            methods.append(Method(CONDITIONAL, own))
            methods.append(Method(UNCONDITIONAL, replace(own, guidance=1.0), prompted=False))
        elif sampler.inversion_asks:
            methods.append(Method(name, own))
    return methods


def edits(parameters: SamplerParameters) -> list[Method]:
    """Return the VAE, whose image is the unedited one, and every sampler with ``parameters``."""
    own = [Method(name, replace(parameters, sampler=name)) for name in SAMPLERS]
    return [Method(VAE), *own]


def network_calls(editor: Editor, method: Method) -> int:
    """Return how often a method asks the network about one image, there and back."""
    if method.parameters is None:
        return 0
    grid = editor.model.schedule.grid(method.parameters.steps, method.parameters.strength)
    sampler = SAMPLERS[method.parameters.sampler]
    return sampler.inversion_turns(grid) + sampler.generation_turns(grid)


def reconstruct(
    editor: Editor, method: Method, image: Image.Image, prompt: str, should_stop: ShouldStop
) -> Returned:
    """Take one image to noise and back. Raises ``EngineError``."""
    if method.parameters is None:
        return Returned(vae_round_trip(editor, image), exact=True, max_error=0.0)
    said = prompt if method.prompted else ""
    inversion = editor.invert(image, said, method.parameters, should_stop=should_stop)
    back = editor.reconstruct(inversion, should_stop=should_stop)
    return Returned(back.image, back.exact, back.max_error)


def edit(
    editor: Editor,
    method: Method,
    image: Image.Image,
    prompts: tuple[str, str],
    should_stop: ShouldStop,
) -> Image.Image:
    """Edit one image from the first prompt to the second. Raises ``EngineError``."""
    if method.parameters is None:
        return vae_round_trip(editor, image)
    base, target = prompts
    inversion = editor.invert(image, base, method.parameters, should_stop=should_stop)
    return editor.edit(inversion, target, should_stop=should_stop).image


def vae_round_trip(editor: Editor, image: Image.Image) -> Image.Image:
    """Encode and decode, nothing else."""
    model, pixels = editor.model, to_pixels(image)
    return to_image(editor.engine.run(lambda: model.decode(model.encode(pixels))).result())


def run_methods(
    methods: Sequence[Method],
    items: Sequence[tuple[str, T]],
    work: Callable[[Method, T], R],
    *,
    rows: int,
    done: Callable[[Method], None] = lambda _: None,
) -> Iterator[Outcome[R]]:
    """Do ``work(method, item)`` for the named ``items``, as many at a time as fill ``rows``.

    ``done`` is told after each item, on any thread. ``EngineError`` and ``ValueError`` become
    failures; raises ``Cancelled`` and ``EngineClosed``.
    """

    def attempt(method: Method, name: str, item: T) -> R | Failure:
        try:
            return work(method, item)
        except (Cancelled, EngineClosed):
            raise
        except (EngineError, ValueError) as error:
            return Failure(name, str(error), method.name)
        finally:
            done(method)

    for method in methods:
        start = time.perf_counter()
        with ThreadPoolExecutor(max(1, rows // method.rows)) as pool:
            try:
                made = [pool.submit(attempt, method, name, item) for name, item in items]
                outcomes = [future.result() for future in made]
            finally:
                pool.shutdown(cancel_futures=True)
        yield Outcome(
            method,
            results=tuple(one for one in outcomes if not isinstance(one, Failure)),
            failures=tuple(one for one in outcomes if isinstance(one, Failure)),
            seconds=time.perf_counter() - start,
        )
