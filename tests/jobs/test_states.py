"""The life of a job, as data."""

from itertools import product

import pytest

from jobs.states import ENDED, LIVE, TRANSITIONS, State, sources_of


def test_every_state_is_either_live_or_ended() -> None:
    assert sorted([*LIVE, *ENDED]) == sorted(State)
    assert TRANSITIONS.keys() == set(State)


@pytest.mark.parametrize(("before", "after"), [*product(State, State)])
def test_sources_are_the_transitions_read_backwards(before: State, after: State) -> None:
    assert (before in sources_of(after)) == (after in TRANSITIONS[before])


def test_success_is_final_and_every_other_state_can_be_left() -> None:
    assert [state for state in State if not TRANSITIONS[state]] == [State.SUCCEEDED]
