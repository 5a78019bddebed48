"""Text encoding and the VAE, beside the sampling on a GPU.

On a GPU such work runs on a thread and a CUDA stream of its own, so that the next turn of the loop
need not wait for it. On a CPU there would be nothing to gain: both would share the same cores, and
the engine runs it between two turns instead (see ``engine``). What waits meanwhile shares a batch,
here as there (see ``calls``).
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from edict_engine.calls import Call, Calls
from edict_engine.errors import EngineClosed

T = TypeVar("T")


class Auxiliary:
    """Serves calls on a thread of its own, on a side stream of ``device``.

    A ticket ends when the work on the device has ended, so whoever reads it may use the result on
    any stream.
    """

    def __init__(self, device: torch.device) -> None:
        self._main = self._side = None
        if device.type == "cuda":
            self._main = torch.cuda.default_stream(device)
            self._side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._calls = Calls(self._on_stream)
        self._closed = threading.Event()
        self._closing = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="edict-auxiliary")

    def add(self, call: Call[Any, Any]) -> None:
        """Queue ``call``; raise ``EngineClosed`` after ``close``."""
        with self._closing:
            if self._closed.is_set():
                raise EngineClosed("the engine is closed: make a new one")
            self._calls.add(call)
            # It may find nothing to do, because the call was served with an earlier one.
            self._pool.submit(self._serve)

    def close(self) -> None:
        """Wait for the current batch; the calls behind it fail with ``EngineClosed``."""
        with self._closing:
            self._closed.set()
        self._pool.shutdown()

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed.is_set()

    def _serve(self) -> None:
        if self._closed.is_set():
            self._calls.fail(EngineClosed("the engine was closed before the work was done"))
        else:
            self._calls.serve()

    def _on_stream(self, function: Callable[[], T]) -> T:
        with torch.inference_mode(), self._streaming():
            value = function()
        if self._main and self._side:
            self._side.synchronize()
            # The allocator may reuse the memory only when the main stream is done with it, too.
            for tensor in _tensors(value):
                if tensor.is_cuda:
                    tensor.record_stream(self._main)
        return value

    def _streaming(self) -> AbstractContextManager[Any]:
        if self._main is None or self._side is None:
            return nullcontext()
        # What the function works on may still be in the making on the main stream.
        self._side.wait_stream(self._main)
        context: AbstractContextManager[Any] = torch.cuda.stream(self._side)
        return context


def _tensors(value: object) -> Iterator[Tensor]:
    """Find the tensors in ``value``, its fields and its items."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name))
