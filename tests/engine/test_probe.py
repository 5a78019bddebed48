"""Which batch sizes the probe lets through."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from edict_engine import memory
from edict_engine.attention import RowControl
from edict_engine.conditioning import Conditioning
from edict_engine.model import Model
from edict_engine.probe import probe_rungs

from .conftest import FakeModel

SHAPE = (4, 8, 8)


class Limited(FakeModel):
    """A network for at most ``limit`` rows, on a device that calls itself a GPU.

    There is none: what the probe makes on it is made on the CPU.
    """

    class Device:
        type = "cuda"

    def __init__(self, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.limit = limit
        self.tried: list[int] = []
        zeros = torch.zeros

        def without_device(*size: int, device: object, **options: torch.dtype) -> Tensor:
            return zeros(*size, **options)

        monkeypatch.setattr(torch, "zeros", without_device)
        self.device = self.Device()  # type: ignore[assignment]

    def embed(self, prompt: str) -> Conditioning:
        return Conditioning(torch.ones(2, 3))

    def denoise(
        self,
        latents: Tensor,
        timesteps: Tensor,
        contexts: Conditioning,
        controls: Sequence[RowControl] = (),
    ) -> Tensor:
        assert len(latents) == len(timesteps) == len(contexts.hidden)
        self.tried.append(len(latents))
        if len(latents) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return latents


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Limited]:
    monkeypatch.setattr(memory, "free_share", lambda _: 0.5)
    return lambda limit: Limited(limit, monkeypatch)


@pytest.mark.parametrize(
    ("limit", "fitting", "tried"),
    [
        (100, (2, 8, 16, 32), [2, 8, 16, 32]),
        (16, (2, 8, 16), [2, 8, 16, 32]),
        (2, (2,), [2, 8]),
        (1, (2,), [2]),
    ],
)
def test_rungs_are_tried_upwards_until_one_does_not_fit(
    limited: Callable[[int], Limited], limit: int, fitting: tuple[int, ...], tried: list[int]
) -> None:
    model = limited(limit)
    assert probe_rungs(model, SHAPE, (16, 2, 32, 8)) == fitting
    assert model.tried == tried


def test_a_rung_that_leaves_too_little_is_not_taken(
    limited: Callable[[int], Limited], monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = iter([0.5, 0.5, 0.1])
    monkeypatch.setattr(memory, "free_share", lambda _: next(shares))
    assert probe_rungs(limited(100), SHAPE, (2, 8, 16, 32)) == (2, 8)


def test_another_error_is_not_taken_for_a_lack_of_memory(
    limited: Callable[[int], Limited], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Tensor:
        raise RuntimeError("a bug")

    model = limited(100)
    monkeypatch.setattr(model, "denoise", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        probe_rungs(model, SHAPE, (2, 8))


def test_on_a_cpu_the_whole_ladder_is_kept(model: Model) -> None:
    assert probe_rungs(model, SHAPE, (16, 2, 8)) == (2, 8, 16)
