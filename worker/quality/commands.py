"""The two comparisons: what each does to an image, and the rows that come of it."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import transformers

from edict_engine.editor import Editor
from edict_engine.engine import Engine
from edict_engine.model import Model, load_model
from edict_engine.parameters import SamplerParameters
from edict_engine.quality import measures, words
from edict_engine.quality.comparison import (
    Failure,
    Method,
    Outcome,
    edit,
    edits,
    network_calls,
    reconstruct,
    round_trips,
    run_methods,
)
from edict_engine.quality.records import (
    EditedRecord,
    EditRow,
    Reconstructed,
    ReconstructionRow,
)
from edict_engine.quality.similarity import Clip
from worker.models import sources_of
from worker.quality import report
from worker.quality.inputs import (
    Captioned,
    EditOrder,
    InputError,
    Reader,
    caption_images,
    check_images,
    find_images,
    read_manifest,
)

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Settings:
    """How to run: the model, its precision and device, and the rows of a batch."""

    model: str
    dtype: str
    device: str
    rows: int
    size: int | None
    limit: int | None
    json: bool


class Comparison:
    """One run of the engine over many images. `stop` ends it: `Cancelled`."""

    def __init__(
        self,
        settings: Settings,
        parameters: SamplerParameters,
        editor: Editor,
        stop: threading.Event,
    ) -> None:
        model = editor.model
        self.settings = settings
        self.parameters = parameters
        self.editor = editor
        self.reader = Reader(settings.size or model.default_size, model.pixel_factor)
        self._should_stop = stop.is_set

    def reconstruction(self, items: Sequence[tuple[str, Captioned]]) -> "Table":
        """Take every image there and back by each method."""
        lpips = measures.find_lpips()
        why = measures.why_no_lpips()

        def work(method: Method, item: Captioned) -> Reconstructed:
            image = self.reader.image(item.path)
            back = reconstruct(self.editor, method, image, item.prompt, self._should_stop)
            return Reconstructed.of(back, measures.compare(back.image, image, lpips))

        outcomes = self._run(round_trips(self.parameters), items, work)
        rows = [
            ReconstructionRow.of(one, network_calls(self.editor, one.method)) for one in outcomes
        ]
        return Table(
            report.RECONSTRUCTION, rows, _failures(outcomes), {"lpips": why} if why else {}
        )

    def edits(self, items: Sequence[tuple[str, EditOrder]], clip: Clip | None) -> "Table":
        """Edit every image by each method."""

        def work(method: Method, item: EditOrder) -> EditedRecord:
            image = self.reader.image(item.path)
            prompts = item.base_prompt, item.edit_prompt
            made = edit(self.editor, method, image, prompts, self._should_stop)
            mask = None if item.mask is None else self.reader.mask(item.mask, item.path)
            inside = None if mask is None else words.luma(words.to_picture(np.asarray(mask)))
            before, after = (words.to_picture(np.asarray(one)) for one in (image, made))
            return EditedRecord(
                psnr_outside=None if mask is None else measures.psnr_outside(made, image, mask),
                structure_distance=measures.structure_distance(made, image),
                clip=None if clip is None else clip.similarity(made, item.edit_prompt),
                verdicts=words.verdicts(*prompts, before, after, inside),
            )

        outcomes = self._run(edits(self.parameters), items, work)
        rows = [EditRow.of(one, network_calls(self.editor, one.method)) for one in outcomes]
        notes = {} if clip else {"clip": "no --clip FOLDER was given"}
        return Table(report.EDITS, rows, _failures(outcomes), notes)

    def _run(
        self,
        methods: Sequence[Method],
        items: Sequence[tuple[str, T]],
        work: Callable[[Method, T], R],
    ) -> list[Outcome[R]]:
        with report.bars(methods, len(items)) as bars:
            rows = self.settings.rows
            return list(run_methods(methods, items, work, rows=rows, done=bars.tick))


@dataclass(frozen=True)
class Table:
    """What a comparison found; `notes` says of absent columns why they are absent."""

    columns: report.Columns
    rows: Sequence[report.Row]
    failures: Sequence[Failure]
    notes: dict[str, str]


def compare_reconstructions(
    settings: Settings,
    parameters: SamplerParameters,
    folder: Path,
    prompt: str | None,
    captions: Path | None,
    stop: threading.Event,
) -> int:
    """Run `reconstruction`; returns the exit status."""
    paths = find_images(folder, settings.limit)
    items, refused = caption_images(folder, paths, prompt, captions)
    with _comparison(settings, parameters, stop) as comparison:
        items, unreadable = check_images(comparison.reader, items)
        refused += unreadable
        report.refuse(refused)
        return _finish(comparison, items and comparison.reconstruction(items), refused)


def compare_edits(
    settings: Settings,
    parameters: SamplerParameters,
    manifest: Path,
    clip: Path | None,
    stop: threading.Event,
) -> int:
    """Run `edits`; returns the exit status."""
    items, refused = read_manifest(manifest)
    with _comparison(settings, parameters, stop) as comparison:
        judge = None if clip is None else Clip(clip)
        items, unreadable = check_images(comparison.reader, items[: settings.limit])
        refused += unreadable
        report.refuse(refused)
        return _finish(comparison, items and comparison.edits(items, judge), refused)


@contextmanager
def _comparison(
    settings: Settings, parameters: SamplerParameters, stop: threading.Event
) -> Iterator[Comparison]:
    # A bar that is drawn over and over is no line of a log.
    transformers.utils.logging.disable_progress_bar()
    model = _load(settings)
    with Engine(model, rungs=(settings.rows,)) as engine:
        yield Comparison(settings, parameters, Editor(model, engine), stop)


def _load(settings: Settings) -> Model:
    try:
        named = sources_of(settings.model)
    except ValueError as error:
        raise InputError(f"the model {settings.model!r} {error}") from None
    dtype: torch.dtype = getattr(torch, settings.dtype)
    return load_model(
        named.source,
        revision=named.revision,
        device=_device(settings.device),
        dtype=dtype,
        adapters=named.adapters,
    )


def _device(name: str) -> torch.device:
    there = torch.cuda.device_count()
    if name == "auto":
        return torch.device("cuda" if there else "cpu")
    if name not in ("cpu", *(["cuda"] if there else []), *(f"cuda:{at}" for at in range(there))):
        raise InputError(
            f"device is {name!r} and this machine has {there} GPUs: use cpu, auto, or cuda:NUMBER"
        )
    return torch.device(name)


def _finish(comparison: Comparison, table: "Table | list[Any]", refused: list[Failure]) -> int:
    """Print; 0 only if every image was done by every method."""
    if not isinstance(table, Table):
        raise InputError("no image is left to compare on: see what was refused above")
    report.refuse(table.failures)
    failures = [*refused, *table.failures]
    settings = asdict(comparison.settings)
    settings.update(asdict(comparison.parameters), revision=comparison.editor.model.revision)
    for own in ("sampler", "json"):
        del settings[own]
    if comparison.settings.json:
        report.show_json(settings, table.rows, failures, table.notes)
    else:
        report.show(table.columns, table.rows, table.notes)
    return 1 if failures else 0


def _failures(outcomes: Sequence[Outcome[R]]) -> list[Failure]:
    return [failure for outcome in outcomes for failure in outcome.failures]
