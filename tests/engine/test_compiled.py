"""The compiled network: exact, its own in the fingerprint, and given up where it is not fit.

No GPU is here: torch's own backend "eager" takes the network apart as every backend does, and
computes as before.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from edict_engine.compiled import Compiled
from edict_engine.conditioning import Conditioning
from edict_engine.editor import Editor
from edict_engine.engine import Engine
from edict_engine.errand import Errand
from edict_engine.images import to_image
from edict_engine.lanes import Lanes
from edict_engine.model import Model, load_model
from edict_engine.parameters import SamplerParameters
from edict_engine.ticket import Ticket

from .conftest import TINY, fake_guidance, start_pair, trajectory

SHAPE = (4, 16, 16)
PARAMETERS = SamplerParameters(steps=3, strength=1.0)


@pytest.fixture(scope="module")
def compiled() -> Model:
    return load_model(TINY, dtype=torch.float32, compiler="eager")


def batch(model: Model, rows: int) -> tuple[torch.Tensor, torch.Tensor, Conditioning]:
    latents = torch.randn(rows, *SHAPE, generator=torch.Generator().manual_seed(0))
    contexts = Conditioning.stack([model.embed("a dog"), model.embed("")]).padded(rows)
    return latents, torch.linspace(0, 999, rows), contexts


@pytest.mark.slow
def test_each_row_count_is_compiled_once_and_says_what_the_network_says(
    model: Model, compiled: Model
) -> None:
    for rows in (2, 3, 2, 3):
        ours, theirs = (each.denoise(*batch(model, rows)) for each in (compiled, model))
        assert torch.allclose(ours, theirs, atol=1e-5)
    assert compiled.not_compiled == {}
    assert compiled.fingerprint(3, SHAPE) == model.fingerprint(3, SHAPE) + ";compiled=eager"
    # What never ran, and what is of another size, is not compiled.
    assert compiled.fingerprint(5, SHAPE) == model.fingerprint(5, SHAPE)
    assert compiled.fingerprint(3, (4, 8, 8)) == model.fingerprint(3, (4, 8, 8))


@pytest.mark.slow
def test_a_round_trip_through_the_compiled_network_is_exact(compiled: Model) -> None:
    image = to_image(torch.rand(3, 128, 128) * 2 - 1)
    with Engine(compiled, rungs=(2,)) as engine:
        editor = Editor(compiled, engine)
        made = editor.invert(image, "a dog", PARAMETERS)
        result = editor.reconstruct(made)
    assert made.fingerprint.endswith(";compiled=eager")
    assert not torch.equal(made.pair.x, made.image)
    assert (result.exact, result.max_error) == (True, 0.0)


@pytest.mark.slow
def test_lanes_under_attention_control_get_batches_of_their_own(compiled: Model) -> None:
    calls: list[tuple[int, int]] = []

    def denoise(*arguments: Any) -> torch.Tensor:
        calls.append((len(arguments[0]), len(arguments[3])))
        return compiled.denoise(*arguments)

    lanes = Lanes(denoise, (8,), controls_apart=compiled.controls_apart)
    with Engine(compiled) as engine:
        editor, errand = Editor(compiled, engine), Errand(engine, 0, None, None)
        plain = editor._guidance(errand, "a dog", PARAMETERS)
        control = editor._guidance(errand, "a cat", PARAMETERS, base="a dog")
    tickets: list[Ticket[Any]] = []
    for seed, guidance in enumerate((plain, control, plain)):
        work = trajectory(PARAMETERS, start_pair(seed, SHAPE), guidance=guidance)
        tickets.append(Ticket(work.turns))
        lanes.add(work, tickets[-1], 0, None)
    while not lanes.idle:
        lanes.turn()
    assert [ticket.result(0).shape for ticket in tickets] == [SHAPE] * 3
    assert set(calls) == {(8, 0), (8, 1)}


class Network:
    """A stand-in whose faults can be chosen; it sees how it is called."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.function = function
        self.calls = 0

    def __call__(
        self, sample: torch.Tensor, timesteps: torch.Tensor, contexts: Conditioning
    ) -> torch.Tensor:
        self.calls += 1
        return self.function(sample)


def small(function: Callable[[torch.Tensor], torch.Tensor]) -> Compiled:
    return Compiled(Network(function), "eager", (1, 2, 2), torch.device("cpu"))


SAMPLE = torch.arange(12.0).view(3, 1, 2, 2) + 1
TIMES = torch.zeros(3)
CONTEXTS = Conditioning(torch.zeros(3, 2, 2))


def test_what_cannot_be_compiled_runs_as_it_is_and_says_why() -> None:
    def unfit(sample: torch.Tensor) -> torch.Tensor:
        print(float(sample.sum().item()) > 0, end="")  # noqa: T201 - what no graph can hold
        return sample if sample.sum().item() > 0 else -sample

    compiled = small(unfit)
    assert torch.equal(compiled(SAMPLE, TIMES, CONTEXTS), SAMPLE)
    assert compiled.how(3, (1, 2, 2)) is None
    assert list(compiled.reasons) == [3]


def test_a_network_whose_rows_depend_on_their_place_is_not_used() -> None:
    compiled = small(lambda sample: sample * (1 + 1e-3 * torch.arange(3.0).view(3, 1, 1, 1)))
    compiled(SAMPLE, TIMES, CONTEXTS)
    assert "its place in the batch" in compiled.reasons[3]


def test_a_network_that_says_nothing_finite_is_not_used() -> None:
    compiled = small(lambda sample: sample * float("nan"))
    compiled(SAMPLE, TIMES, CONTEXTS)
    assert "its output is off by nan" in compiled.reasons[3]


def test_running_out_of_memory_in_compiling_is_no_fault_and_halves_the_batch() -> None:
    # Given a compiled network that holds four rows of the fake's latents
    def predict(
        sample: torch.Tensor, timesteps: torch.Tensor, contexts: Conditioning
    ) -> torch.Tensor:
        if len(sample) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return sample * 0.5

    compiled = Compiled(predict, "eager", (4, 8, 8), torch.device("cpu"))

    def denoise(
        latents: torch.Tensor, timesteps: torch.Tensor, contexts: Conditioning, controls: Any
    ) -> torch.Tensor:
        return compiled(latents, timesteps, contexts)

    lanes = Lanes(denoise, (4, 8))
    tickets: list[Ticket[Any]] = []
    for seed in range(4):
        work = trajectory(PARAMETERS, start_pair(seed), guidance=fake_guidance())
        tickets.append(Ticket(work.turns))
        lanes.add(work, tickets[-1], 0, None)
    # When all run
    while not lanes.idle:
        lanes.turn()
    # Then each ended, compiled, in the smaller batch
    assert [ticket.rung for ticket in tickets] == [4] * 4
    assert all(ticket.result(0).shape == (4, 8, 8) for ticket in tickets)
    assert compiled.how(4, (4, 8, 8)) == "eager"
    assert compiled.reasons == {}
