"""What waits together shares a call, and nobody's result shows it."""

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edict_engine import memory
from edict_engine.calls import Batched, Call, Calls, Remembering
from edict_engine.errors import Cancelled, ParameterError
from edict_engine.ticket import Ticket


class Doubling:
    """A function of rows that keeps what it was given; ``limit`` is the largest row it takes."""

    def __init__(self, limit: int = 1000) -> None:
        self.batches: list[list[int]] = []
        self._limit = limit

    def __call__(self, rows: Sequence[int]) -> list[int]:
        self.batches.append(list(rows))
        if max(rows) > self._limit:
            raise ValueError(f"{max(rows)} is above {self._limit}")
        return [2 * row for row in rows]


def queue(calls: Calls, function: Batched[int, int], rows: Sequence[int]) -> list[Ticket[int]]:
    tickets = [Ticket[int]() for _ in rows]
    for row, ticket in zip(rows, tickets, strict=True):
        calls.add(Call(function, row, ticket))
    return tickets


def here() -> Calls:
    return Calls(lambda function: function())


def serve_all(calls: Calls) -> None:
    while calls.serve():
        pass


@given(
    width=st.integers(1, 5),
    groups=st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=9), max_size=4),
)
def test_every_row_gets_its_own_result_in_batches_of_one_width(
    width: int, groups: list[list[int]]
) -> None:
    calls, function = here(), Doubling()
    batched = Batched(function, width)
    for rows in groups:
        tickets = queue(calls, batched, rows)
        serve_all(calls)
        assert [ticket.result(0) for ticket in tickets] == [2 * row for row in rows]
    assert {len(batch) for batch in function.batches} <= {width}
    assert len(function.batches) == sum(-(-len(rows) // width) for rows in groups)


def test_a_batch_that_is_not_full_repeats_a_row() -> None:
    function = Doubling()
    assert Batched(function, 4)([7, 8]) == [14, 16]
    assert function.batches == [[7, 8, 7, 7]]


def test_only_rows_for_one_function_and_of_one_shape_and_dtype_share_a_batch() -> None:
    # Given rows of three kinds, in any order, and another function's
    shapes: list[set[tuple[torch.Size, torch.dtype]]] = []

    def note(rows: Sequence[Tensor]) -> list[int]:
        shapes.append({(row.shape, row.dtype) for row in rows})
        return [0] * len(rows)

    kinds = [torch.zeros(2), torch.zeros(3), torch.zeros(2, dtype=torch.float64), torch.zeros(2)]
    calls, first, second = here(), Batched(note, 8), Batched(note, 8)
    for function in (first, second):
        for row in kinds:
            calls.add(Call(function, row, Ticket()))
    # When they are served
    serve_all(calls)
    # Then like goes with like
    assert len(shapes) == 6
    assert all(len(each) == 1 for each in shapes)


def test_a_cancelled_call_is_left_out_and_its_place_is_anothers() -> None:
    calls, function = here(), Doubling()
    first, second, third = queue(calls, Batched(function, 2), [1, 2, 3])
    second.cancel()
    assert calls.serve()
    assert not calls.serve()
    assert (first.result(0), third.result(0)) == (2, 6)
    assert function.batches == [[1, 3]]
    with pytest.raises(Cancelled):
        second.result(0)


def test_one_that_fails_spoils_nothing_for_the_others_of_its_batch() -> None:
    calls, function = here(), Doubling(limit=10)
    good, bad, other = queue(calls, Batched(function, 4), [1, 11, 3])
    serve_all(calls)
    assert (good.result(0), other.result(0)) == (2, 6)
    with pytest.raises(ValueError, match="11 is above 10"):
        bad.result(0)
    # Each was tried again alone, in a batch as wide.
    assert function.batches[1:] == [[1] * 4, [11] * 4, [3] * 4]


def test_memory_that_ran_out_is_given_back_before_each_is_tried_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    released: list[bool] = []
    monkeypatch.setattr(memory, "release", lambda: released.append(True))

    def hungry(rows: Sequence[int]) -> list[int]:
        if not released:
            raise torch.OutOfMemoryError("no room")
        return list(rows)

    calls = here()
    tickets = queue(calls, Batched(hungry, 2), [1, 2])
    serve_all(calls)
    assert [ticket.result(0) for ticket in tickets] == [1, 2]


def test_a_lonely_call_that_runs_out_of_memory_fails_once() -> None:
    tries: list[int] = []

    def hungry(rows: Sequence[int]) -> list[int]:
        tries.append(len(rows))
        raise torch.OutOfMemoryError("no room")

    calls = here()
    [ticket] = queue(calls, Batched(hungry, 4), [1])
    serve_all(calls)
    with pytest.raises(torch.OutOfMemoryError):
        ticket.result(0)
    assert tries == [4]


def test_what_is_remembered_is_known_without_a_call_and_asked_for_once_in_a_batch() -> None:
    function = Doubling()
    remembering = Remembering(function, 4, kept=2)
    assert remembering.known(1) is None
    assert remembering([1, 1, 2, 1]) == [2, 2, 4, 2]
    assert function.batches == [[1, 2, 1, 1]]
    assert (remembering.known(2), remembering.known(1)) == (4, 2)
    # The one that nobody asked for the longest makes room.
    assert remembering([3, 1]) == [6, 2]
    assert (remembering.known(1), remembering.known(2), remembering.known(3)) == (2, None, 6)
    assert function.batches[1:] == [[3, 3, 3, 3]]


def test_nobody_is_handed_what_the_device_is_still_computing() -> None:
    # Given a device that goes on after the function has returned, as a GPU does
    remembering, known_meanwhile = Remembering(Doubling(), 1, kept=2), list[int | None]()

    def evaluate(function: Callable[[], list[int]]) -> list[int]:
        results = function()
        known_meanwhile.append(remembering.known(1))
        return results

    calls = Calls(evaluate)
    [ticket] = queue(calls, remembering, [1])
    calls.serve()
    # Then the result is known when the device is done with it, and not before
    assert known_meanwhile == [None]
    assert remembering.known(1) == ticket.result(0) == 2


def test_all_that_wait_can_be_failed() -> None:
    calls = here()
    tickets = queue(calls, Batched(Doubling(), 2), [1, 2, 3])
    calls.fail(RuntimeError("the end"))
    assert not calls.serve()
    for ticket in tickets:
        with pytest.raises(RuntimeError, match="the end"):
            ticket.result(0)


def test_a_width_below_one_is_refused() -> None:
    with pytest.raises(ParameterError, match="has 0 rows: give at least 1"):
        Batched(Doubling(), 0)
