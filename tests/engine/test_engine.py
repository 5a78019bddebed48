"""The device thread: who may call, who waits, who is told."""

import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from edict_engine.attention import RowControl
from edict_engine.conditioning import Conditioning
from edict_engine.engine import Engine
from edict_engine.errors import Cancelled, EngineClosed, ParameterError
from edict_engine.lanes import Lanes
from edict_engine.parameters import SamplerParameters
from edict_engine.probe import CPU_RUNGS
from edict_engine.ticket import Ticket

from .conftest import FakeModel, fake_guidance, start_pair, trajectory

TWO_STEPS = SamplerParameters(steps=2, strength=1.0)
LONG = SamplerParameters(steps=1000, strength=1.0)


class GatedModel(FakeModel):
    """A fake network that waits to be let through."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)

    def denoise(
        self,
        latents: Tensor,
        timesteps: Tensor,
        contexts: Conditioning,
        controls: Sequence[RowControl] = (),
    ) -> Tensor:
        self.entered.release()
        assert self.gate.acquire(timeout=30)
        return super().denoise(latents, timesteps, contexts, controls)


def test_submissions_from_many_threads_all_come_back_exact() -> None:
    with Engine(FakeModel()) as engine:

        def round_trip(seed: int, results: list[bool]) -> None:
            start = start_pair(seed)
            inverted = engine.submit(trajectory(TWO_STEPS, start)).result(30)
            back = engine.submit(trajectory(TWO_STEPS, inverted, direction="generate")).result(30)
            results.append(back.equal(start))

        results: list[bool] = []
        threads = [threading.Thread(target=round_trip, args=(s, results)) for s in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [True] * 12


def test_functions_run_on_the_device_thread_and_return_or_raise_there() -> None:
    with Engine(FakeModel()) as engine:
        assert engine.run(lambda: threading.current_thread().name).result(30) == "edict-device"
        assert engine.run(torch.is_inference_mode_enabled).result(30)
        with pytest.raises(ZeroDivisionError):
            engine.run(lambda: 1 // 0).result(30)


def test_functions_run_between_two_turns_of_a_long_trajectory() -> None:
    with Engine(FakeModel()) as engine:
        long = engine.submit(trajectory(LONG))
        assert engine.run(lambda: "meanwhile").result(30) == "meanwhile"
        assert not long.done
        long.cancel()


def test_a_cancelled_trajectory_ends_long_before_its_time() -> None:
    with Engine(FakeModel()) as engine:
        ticket = engine.submit(trajectory(LONG))
        ticket.cancel()
        with pytest.raises(Cancelled):
            ticket.result(30)
        assert ticket.progress.done < ticket.progress.total


def test_a_cancelled_function_is_not_called() -> None:
    called = []
    model = GatedModel()
    with Engine(model) as engine:
        engine.submit(trajectory(TWO_STEPS))
        assert model.entered.acquire(timeout=30)
        ticket = engine.run(lambda: called.append(1))
        ticket.cancel()
        model.gate.release(100)
        with pytest.raises(Cancelled):
            ticket.result(30)
    assert called == []


def test_a_result_that_is_not_there_in_time_is_a_timeout_and_the_work_goes_on() -> None:
    model = GatedModel()
    with Engine(model) as engine:
        ticket = engine.submit(trajectory(TWO_STEPS))
        with pytest.raises(TimeoutError):
            ticket.result(0.01)
        assert not ticket.wait(0.01)
        model.gate.release(100)
        assert ticket.result(30).shape == (4, 8, 8)
        assert ticket.wait(0)


def test_closing_fails_what_runs_what_waits_and_what_comes_later() -> None:
    # Given an engine inside a call, with more work behind it
    model = GatedModel()
    engine = Engine(model, rungs=(2,))
    tickets = [engine.submit(trajectory(TWO_STEPS)) for _ in range(2)]
    assert model.entered.acquire(timeout=30)
    call = engine.run(lambda: None)
    # When it is closed
    closing = threading.Thread(target=engine.close)
    closing.start()
    while not engine.closed:
        time.sleep(0.001)
    model.gate.release(100)
    closing.join()
    # Then nobody is left waiting
    unfinished: list[Ticket[Any]] = [*tickets, call]
    for ticket in unfinished:
        with pytest.raises(EngineClosed):
            ticket.result(0)
    with pytest.raises(EngineClosed):
        engine.submit(trajectory(TWO_STEPS))
    with pytest.raises(EngineClosed):
        engine.run(lambda: None)


def test_an_idle_engine_uses_no_processor_time() -> None:
    with Engine(FakeModel()) as engine:
        engine.submit(trajectory(TWO_STEPS)).result(30)
        before = time.process_time()
        time.sleep(0.3)
        assert time.process_time() - before < 0.1


def test_work_with_more_rows_than_a_batch_is_refused_at_once() -> None:
    with Engine(FakeModel(), rungs=(1,)) as engine:
        with pytest.raises(ParameterError, match="needs 2 rows and a batch has 1"):
            engine.submit(trajectory(TWO_STEPS))
        with pytest.raises(ParameterError, match="needs 2 rows and a batch has 1"):
            engine.submit(trajectory(TWO_STEPS), rung=1)
        engine.submit(trajectory(TWO_STEPS, guidance=fake_guidance(1.0))).result(30)


@pytest.mark.parametrize("rungs", [(), (0, 2)])
def test_a_ladder_without_rows_is_refused(rungs: tuple[int, ...]) -> None:
    with pytest.raises(ParameterError, match="rungs"):
        Engine(FakeModel(), rungs=rungs)


def test_a_bug_in_the_loop_reaches_its_callers_and_the_engine_lives_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def buggy(lanes: Lanes) -> None:
        monkeypatch.undo()
        raise ZeroDivisionError("a bug")

    with Engine(FakeModel()) as engine:
        monkeypatch.setattr(Lanes, "turn", buggy)
        with pytest.raises(ZeroDivisionError, match="a bug"):
            engine.submit(trajectory(TWO_STEPS)).result(30)
        engine.submit(trajectory(TWO_STEPS)).result(30)


def test_rungs_are_asked_for_on_the_thread_that_will_use_them() -> None:
    names: list[str] = []

    def find() -> tuple[int, ...]:
        names.append(threading.current_thread().name)
        return 8, 2

    with Engine(FakeModel(), rungs=find) as engine:
        assert engine.rungs == (2, 8)
    assert names == ["edict-device"]
    with Engine(FakeModel()) as engine:
        assert engine.rungs == CPU_RUNGS


def test_an_engine_whose_rungs_cannot_be_found_says_why() -> None:
    def find() -> tuple[int, ...]:
        raise ValueError("no such device")

    with pytest.raises(ValueError, match="no such device"):
        Engine(FakeModel(), rungs=find)
    for rungs in ((), (0, 2)):
        with pytest.raises(ParameterError, match="at least 1"):
            Engine(FakeModel(), rungs=rungs)


def test_what_comes_to_a_settling_engine_one_after_the_other_shares_a_batch() -> None:
    with Engine(FakeModel(), rungs=(2, 8), settle=0.5) as engine:
        first = engine.submit(trajectory(TWO_STEPS, start_pair(1)))
        time.sleep(0.05)
        second = engine.submit(trajectory(TWO_STEPS, start_pair(2)))
        first.result(30)
        second.result(30)
    assert (first.rung, second.rung) == (8, 8)


def test_express_work_waits_for_nothing_to_settle() -> None:
    with Engine(FakeModel(), rungs=(2, 8), settle=60, express=100) as engine:
        assert engine.submit(trajectory(TWO_STEPS), priority=100).result(30)


def test_a_stream_of_arrivals_does_not_keep_a_settling_engine_from_work() -> None:
    with Engine(FakeModel(), rungs=(2, 8), settle=60) as engine:
        assert engine.submit(trajectory(TWO_STEPS)).result(30)


def test_an_express_caller_gets_its_next_piece_in_before_other_work_goes_on() -> None:
    model = FakeModel()
    with Engine(model, rungs=(2,), express=100) as engine:
        long = engine.submit(trajectory(LONG))
        engine.run(lambda: None, priority=100).result(30)
        before = len(model.calls)
        express = engine.submit(trajectory(TWO_STEPS), priority=100)
        express.result(30)
        during = len(model.calls) - before
        long.cancel()
    # The pair's two members of two steps each, and hardly a turn of the long one between them.
    assert during <= 2 * 2 + 2
