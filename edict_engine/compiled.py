"""The denoiser compiled by ``torch.compile``, once for each batch shape.

Only latents of the model's own size are compiled, at any row count: a shape takes up to minutes,
and images that are shrunk to fit come in hundreds of shapes. Which shapes those are depends on
nothing that ran before, so neither do the bits of a row. Attention control runs as it is, and so
its lanes get batches of their own (see ``lanes``).

On CUDA the compiled network is replayed as a CUDA graph. Inductor is told to be deterministic: by
default it times several kernels and takes the fastest, which another day may be another one, with
other bits.

A shape is compiled at its first call, and checked: against the network as it is, and that a row's
bits are the same in other places of the batch. What cannot be compiled (no C compiler, say) or does
not pass runs as it is, for as long as the process lives; ``reasons`` says why.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from edict_engine import memory
from edict_engine.conditioning import Conditioning

Predict = Callable[[Tensor, Tensor, Conditioning], Tensor]
Flat = Callable[[Tensor, Tensor, Tensor, Tensor | None, Tensor | None], Tensor]

#: The backend that makes kernels; the others that torch lists are for finding faults.
INDUCTOR = "inductor"
#: How far outputs may be off, in the size of the network's own: far above what bfloat16 rounds.
TOLERANCE = 0.05
#: Row counts that one process may compile. torch's own limit of 8 counts for the whole process.
SHAPES = 32


class Compiled:
    """``predict`` compiled by ``backend`` for latents of ``latent_shape`` (C, H, W)."""

    def __init__(
        self,
        predict: Predict,
        backend: str,
        latent_shape: tuple[int, int, int],
        device: torch.device,
    ) -> None:
        self.reasons: dict[int, str] = {}
        self._latent_shape = latent_shape
        self._predict = predict
        self._graphs = backend == INDUCTOR and device.type == "cuda"
        self._name = f"{backend}+graphs" if self._graphs else backend
        self._compile = _compiler(backend, graphs=self._graphs)
        self._ready: dict[int, Flat] = {}

    def __call__(self, sample: Tensor, timesteps: Tensor, contexts: Conditioning) -> Tensor:
        """Return what ``predict`` does, (R, C, H, W), up to rounding.

        Raises what ``predict`` raises where memory runs out, in compiling too.
        """
        rows = len(sample)
        if tuple(sample.shape[1:]) != self._latent_shape or rows in self.reasons:
            return self._predict(sample, timesteps, contexts)
        if rows not in self._ready:
            self._prepare(sample, timesteps, contexts)
            return self(sample, timesteps, contexts)
        return self._run(self._ready[rows], sample, timesteps, contexts)

    def how(self, rows: int, latent_shape: tuple[int, int, int]) -> str | None:
        """Name what makes the bits of such a batch; None: the network as it is, or none ran."""
        return self._name if latent_shape == self._latent_shape and rows in self._ready else None

    def _prepare(self, sample: Tensor, timesteps: Tensor, contexts: Conditioning) -> None:
        """Compile for this many rows, or find the reason why not."""
        rows = len(sample)
        if len(self._ready) >= SHAPES:
            self.reasons[rows] = f"{SHAPES} row counts are compiled already"
            return
        function = self._compile(self._flat())
        try:
            fault = self._fault(function, sample, timesteps, contexts)
        except Exception as error:
            if memory.ran_out(error):
                raise
            fault = f"{type(error).__name__}: {error}"
        if fault is None:
            self._ready[rows] = function
        else:
            self.reasons[rows] = fault

    def _fault(
        self, function: Flat, sample: Tensor, timesteps: Tensor, contexts: Conditioning
    ) -> str | None:
        expected = self._predict(sample, timesteps, contexts).to(torch.float64)
        # Twice: a CUDA graph is recorded at the second call and replayed at the third.
        for _ in range(2):
            got = self._run(function, sample, timesteps, contexts)
        off = (got.to(torch.float64) - expected).norm() / expected.norm()
        if not off <= TOLERANCE:
            return f"its output is off by {off:.2g} and {TOLERANCE} is allowed"
        turned = torch.arange(len(sample), device=sample.device).roll(1)
        moved = self._run(function, sample[turned], timesteps[turned], _take(contexts, turned))
        if not torch.equal(moved, got[turned]):
            return "the bits of a row depend on its place in the batch"
        return None

    def _run(
        self, function: Flat, sample: Tensor, timesteps: Tensor, contexts: Conditioning
    ) -> Tensor:
        # One dtype, else whole and broken timesteps would be two functions.
        times = timesteps.to(torch.float32)
        if not self._graphs:
            return function(sample, times, contexts.hidden, contexts.pooled, contexts.sizes)
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        # The graph's next replay writes into the same memory.
        return function(sample, times, contexts.hidden, contexts.pooled, contexts.sizes).clone()

    def _flat(self) -> Flat:
        def predict(
            sample: Tensor,
            timesteps: Tensor,
            hidden: Tensor,
            pooled: Tensor | None,
            sizes: Tensor | None,
        ) -> Tensor:
            return self._predict(sample, timesteps, Conditioning(hidden, pooled, sizes))

        return predict


def _compiler(backend: str, *, graphs: bool) -> Callable[[Flat], Flat]:
    options: dict[str, Any] = {"deterministic": True, "triton.cudagraphs": graphs}
    known = options if backend == INDUCTOR else None
    limits = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, SHAPES)

    def compile_(function: Flat) -> Flat:
        # Whole or not at all, so that a part that torch cannot compile is no silent loss.
        compiled: Flat = torch.compile(
            function, backend=backend, fullgraph=True, dynamic=False, options=known
        )
        return compiled

    return compile_


def _take(contexts: Conditioning, rows: Tensor) -> Conditioning:
    return Conditioning(
        contexts.hidden[rows],
        None if contexts.pooled is None else contexts.pooled[rows],
        None if contexts.sizes is None else contexts.sizes[rows],
    )
