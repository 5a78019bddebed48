"""One run, from the networks to the figures."""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from bench.engine import recipe
from bench.gpu import editing, rates
from bench.gpu.figures import STRENGTH, Figures
from bench.gpu.networks import BLUEPRINTS, as_model, build
from edict_engine import memory
from edict_engine.editor import Editor
from edict_engine.engine import Engine
from edict_engine.families import Family
from edict_engine.model import Model
from edict_engine.numerics import fastest_dtype
from edict_engine.parameters import SamplerParameters
from edict_engine.probe import probe_rungs
from edict_engine.schedule import kept_steps

#: Shares of the time after which no smaller row count is compiled, and no image is begun.
COMPILING, EDITING = 0.45, 0.75
WITHOUT_CUDA = "without CUDA there are no CUDA graphs, no side stream and no peak of memory"


class Measurement:
    """One run, step by step; ``figures`` grows."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._begun = time.monotonic()
        self._device = torch.device(options.device)
        self._blueprint = BLUEPRINTS[options.model]
        self._size = options.size or self._blueprint.size
        self._parameters = SamplerParameters(steps=options.steps, strength=STRENGTH, guidance=3.0)
        self._dtype = fastest_dtype(self._device)
        cuda = self._device.type == "cuda"
        yardstick = rates.Yardstick(
            rates.count_operations(self._blueprint, self._size),
            rates.multiply(self._device, self._dtype),
        )
        self.figures = Figures(
            device=torch.cuda.get_device_name(self._device) if cuda else self._device.type,
            dtype=str(self._dtype).removeprefix("torch."),
            yardstick=yardstick,
            left_out=[] if cuda else [WITHOUT_CUDA],
        )

    def run(self) -> Figures:
        """Measure everything, and let go of the engine's networks before the recipe's are made."""
        self._engine(self._build(self._dtype))
        memory.release()
        self._recipe()
        return self.figures

    def _engine(self, family: Family) -> None:
        plain, compiler = as_model(family), self._options.compiler
        rows = self._plain_rates(plain)
        model = plain if compiler == "none" else as_model(family, compiler)
        network = editing.Watched(model)

        def begin() -> Sequence[int]:
            # On the engine's thread, to which the CUDA graphs then belong.
            return [rows[-1] if model is plain else self._compiled_rates(model, rows)]

        with Engine(network, rungs=begin) as engine:
            self.figures.not_compiled = dict(model.not_compiled)
            count = self._affordable(engine.rungs[-1])
            editor = Editor(model, engine)
            self.figures.edits = editing.measure(editor, network, self._parameters, count)

    def _plain_rates(self, model: Model) -> tuple[int, ...]:
        """Return the row counts that fit."""
        shape = model.latent_shape(model.default_size, model.default_size)
        rows = probe_rungs(model, shape, self._options.rows)
        if dropped := sorted({*self._options.rows} - {*rows}):
            self.figures.left_out.append(f"{dropped} rows: they do not fit into memory")
        for count in rows:
            rate = self.figures.yardstick.rate(model, count, compiled=False)
            self.figures.rates.append(rate)
        return rows

    def _compiled_rates(self, model: Model, rows: Sequence[int]) -> int:
        """Go from the largest row count down; return the largest that fits."""
        largest = 0
        for count in sorted(rows, reverse=True):
            if largest and self._spent() > COMPILING:
                self.figures.left_out.append(f"{count} rows compiled: no time was left")
                continue
            if not self._compiled_rate(model, count):
                # Here, where no traceback holds on to any tensors.
                memory.release()
                self.figures.left_out.append(f"{count} rows compiled: memory ran out")
            else:
                largest = largest or count
        return largest or min(rows)

    def _compiled_rate(self, model: Model, rows: int) -> bool:
        """Time it, if it is compiled; tell whether it fits into memory."""
        try:
            rate = self.figures.yardstick.rate(model, rows, compiled=True)
        except Exception as error:
            if memory.ran_out(error):
                return False
            raise
        if rows not in model.not_compiled:
            self.figures.rates.append(rate)
        return True

    def _affordable(self, rows: int) -> int:
        """Return how many images there is time for: all, or what fills the batch some times."""
        wanted, lanes = self._options.images, max(1, rows // 2)
        # Two directions, two members of the pair, two rows.
        image = 2 * 2 * 2 * kept_steps(self._parameters.steps, STRENGTH)
        speed = max(rate.rows_per_second for rate in self.figures.rates) / image
        left = (EDITING - self._spent()) * 60 * self._options.minutes
        affordable = max(lanes, int(left * speed) // lanes * lanes)
        if affordable >= wanted:
            return int(wanted)
        self.figures.left_out.append(f"{wanted - affordable} images of {wanted}: no time was left")
        return affordable

    def _recipe(self) -> None:
        family = self._build(torch.float64)
        # cuDNN has no channels-last convolutions in float64: each would turn its weights around.
        family.networks.denoiser.to(memory_format=torch.contiguous_format)
        model = as_model(family)
        few = replace(self._parameters, steps=self._options.recipe_steps, strength=1.0)
        latents = recipe.make_latents(model, 1)
        self.figures.recipe = recipe.Recipe(model, few).measure(recipe.RECIPE, latents)

    def _build(self, dtype: torch.dtype) -> Family:
        return build(self._blueprint, self._size, self._device, dtype)

    def _spent(self) -> float:
        """Return the share of the time that is over."""
        allowed: float = 60 * self._options.minutes
        return (time.monotonic() - self._begun) / allowed
