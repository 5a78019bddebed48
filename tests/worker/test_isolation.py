"""Who waits for whom in one process."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from tests.pipeline import eventually
from worker.isolation import Isolation


class Party:
    """A thread that enters, stays until it is let go, and leaves."""

    def __init__(self, enter: Callable[[], AbstractContextManager[None]]) -> None:
        self.inside = threading.Event()
        self._leave = threading.Event()
        self._enter = enter
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self._enter():
            self.inside.set()
            self._leave.wait(30)

    def leave(self) -> None:
        self._leave.set()
        self._thread.join(30)


def waits(party: Party) -> bool:
    return not party.inside.wait(0.1)


def test_shards_run_side_by_side_and_a_suspect_alone():
    isolation = Isolation()
    first, second = Party(isolation.together), Party(isolation.together)
    assert first.inside.wait(10)
    assert second.inside.wait(10)

    suspect = Party(isolation.alone)
    assert waits(suspect)
    first.leave()
    assert waits(suspect)
    second.leave()
    assert suspect.inside.wait(10)

    third = Party(isolation.together)
    assert waits(third)
    suspect.leave()
    assert third.inside.wait(10)
    third.leave()


def test_bulk_shards_let_suspects_go_first_and_urgent_ones_go_before_both():
    isolation = Isolation()
    running = Party(isolation.alone)
    assert running.inside.wait(10)
    suspect = Party(isolation.alone)
    eventually(lambda: isolation._waiting == 1)
    bulk = Party(isolation.together)
    urgent = Party(lambda: isolation.together(urgent=True))
    eventually(lambda: isolation._urgent_waiting == 1)

    running.leave()

    assert urgent.inside.wait(10)
    assert waits(suspect)
    assert waits(bulk)
    urgent.leave()
    assert suspect.inside.wait(10)
    assert waits(bulk)
    suspect.leave()
    assert bulk.inside.wait(10)
    bulk.leave()


def test_an_urgent_shard_joins_those_that_a_suspect_waits_for():
    isolation = Isolation()
    bulk = Party(isolation.together)
    assert bulk.inside.wait(10)
    suspect = Party(isolation.alone)
    eventually(lambda: isolation._waiting == 1)

    urgent = Party(lambda: isolation.together(urgent=True))

    assert urgent.inside.wait(10)
    urgent.leave()
    bulk.leave()
    assert suspect.inside.wait(10)
    suspect.leave()
