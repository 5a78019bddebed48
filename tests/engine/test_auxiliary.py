"""Work beside the sampling: its own thread, and on a GPU its own stream."""

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest
import torch

from edict_engine.auxiliary import Auxiliary
from edict_engine.calls import Batched, Call
from edict_engine.conditioning import Conditioning
from edict_engine.errors import Cancelled, EngineClosed
from edict_engine.ticket import Ticket

T = TypeVar("T")


@pytest.fixture(
    params=[
        "cpu",
        pytest.param(
            "cuda",
            marks=pytest.mark.skipif(
                not torch.cuda.is_available(), reason="streams need a CUDA GPU, and there is none"
            ),
        ),
    ]
)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


def run(auxiliary: Auxiliary, function: Callable[[], T], ticket: Ticket[T]) -> None:
    auxiliary.add(Call(Batched(lambda _: [function()]), None, ticket))


def test_functions_run_in_order_on_one_other_thread(device: torch.device) -> None:
    auxiliary, names, order = Auxiliary(device), set(), list[int]()
    tickets = [Ticket[None]() for _ in range(20)]

    def note(index: int) -> None:
        names.add(threading.current_thread().name)
        order.append(index)

    for index, ticket in enumerate(tickets):
        run(auxiliary, lambda index=index: note(index), ticket)
    for ticket in tickets:
        ticket.result(30)
    auxiliary.close()
    assert order == list(range(20))
    assert len(names) == 1
    assert threading.current_thread().name not in names


def test_results_of_any_form_are_there_when_the_ticket_ends(device: torch.device) -> None:
    auxiliary = Auxiliary(device)
    source = torch.arange(6.0, device=device)
    ticket: Ticket[list[Conditioning]] = Ticket()
    run(auxiliary, lambda: [Conditioning(source * 2, pooled=source + 1)], ticket)
    [result] = ticket.result(30)
    assert result.hidden.tolist() == [0, 2, 4, 6, 8, 10]
    assert result.pooled is not None
    assert result.pooled.tolist() == [1, 2, 3, 4, 5, 6]
    auxiliary.close()


def test_an_error_reaches_its_caller_and_the_next_function_runs(device: torch.device) -> None:
    auxiliary = Auxiliary(device)
    bad, good, cancelled = Ticket[float](), Ticket[int](), Ticket[int]()
    cancelled.cancel()
    run(auxiliary, lambda: 1 / 0, bad)
    run(auxiliary, lambda: 1, cancelled)
    run(auxiliary, lambda: 1, good)
    with pytest.raises(ZeroDivisionError):
        bad.result(30)
    with pytest.raises(Cancelled):
        cancelled.result(30)
    assert good.result(30) == 1
    auxiliary.close()


def test_rows_that_wait_share_a_call(device: torch.device) -> None:
    # Given an auxiliary that is busy
    auxiliary, gate, batches = Auxiliary(device), threading.Event(), list[list[int]]()

    def double(rows: Sequence[int]) -> list[int]:
        batches.append(list(rows))
        return [2 * row for row in rows]

    run(auxiliary, lambda: gate.wait(30), Ticket())
    # When more rows come than fit into one batch
    doubled, tickets = Batched(double, 4), [Ticket[int]() for _ in range(6)]
    for row, ticket in enumerate(tickets):
        auxiliary.add(Call(doubled, row, ticket))
    gate.set()
    # Then it takes as few calls as it can
    assert [ticket.result(30) for ticket in tickets] == [0, 2, 4, 6, 8, 10]
    assert batches == [[0, 1, 2, 3], [4, 5, 4, 4]]
    auxiliary.close()


def test_closing_leaves_nobody_waiting(device: torch.device) -> None:
    # Given a function in the making and one behind it
    auxiliary, entered, gate = Auxiliary(device), threading.Event(), threading.Event()

    def wait() -> int:
        entered.set()
        assert gate.wait(30)
        return 1

    current, behind = Ticket[int](), Ticket[int]()
    run(auxiliary, wait, current)
    run(auxiliary, lambda: 2, behind)
    assert entered.wait(30)
    # When it is closed
    closing = threading.Thread(target=auxiliary.close)
    closing.start()
    while not auxiliary.closed:
        pass
    gate.set()
    closing.join()
    # Then the first ends, and the others are told
    assert current.result(0) == 1
    with pytest.raises(EngineClosed):
        behind.result(0)
    with pytest.raises(EngineClosed):
        run(auxiliary, lambda: 3, Ticket())
