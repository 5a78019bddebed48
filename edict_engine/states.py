"""The states of an image's own generation, which masked edits of it need: met once, used by all.

A sampler that is exact meets them, integer for integer, on its way to the noise, so an inversion
can keep them. Else the first masked edit generates the image again, and the others wait for it.

Invariant: what is kept is what a generation at the inversion's own rung would meet, so that no
edit's bits depend on whether anything was kept.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from weakref import WeakKeyDictionary

from edict_engine.fixed_point import LatentPair
from edict_engine.latent_file import Inversion

#: Bytes of states that are kept, on the model's device. Of SDXL at 1024 pixels in 50 steps, an
#: image has 52 MB.
LIMIT = 256 * 2**20

States = Sequence[LatentPair]
#: How a lock is waited for: by somebody who may give up.
Turn = Callable[[threading.Lock], AbstractContextManager[None]]


class Recorder:
    """Keeps every state that a trajectory meets at a step, on the device.

    An ``AfterStep`` of a generation, or of an inversion, which meets them in the opposite order.
    """

    def __init__(self) -> None:
        self._met: dict[int, LatentPair] = {}

    def __call__(self, position: int, pair: LatentPair) -> LatentPair:
        """Keep ``pair`` and go on with it."""
        # A trajectory that ran out of memory starts again, and meets all of them anew.
        self._met[position] = pair
        return pair

    @property
    def states(self) -> list[LatentPair]:
        """In the order of generation."""
        return [self._met[position] for position in sorted(self._met)]


class KeptStates:
    """States by their inversion, as long as somebody holds it and ``limit`` bytes suffice.

    Those of the inversion that was used longest ago go first. Safe to use from many threads.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._kept: WeakKeyDictionary[Inversion, States] = WeakKeyDictionary()
        self._turns: WeakKeyDictionary[Inversion, threading.Lock] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def keep(self, inversion: Inversion, states: States) -> None:
        """Keep ``states``, unless they alone are too large."""
        if _size(states) > self._limit:
            return
        with self._lock:
            self._kept.pop(inversion, None)
            self._kept[inversion] = states
            # A list: what it holds cannot vanish meanwhile.
            for oldest in list(self._kept):
                if sum(map(_size, self._kept.values())) <= self._limit:
                    break
                del self._kept[oldest]

    def of(self, inversion: Inversion, make: Callable[[], States], turn: Turn) -> States:
        """Find the states, or let one caller at a time ``make`` them."""
        with self._lock:
            alone = self._turns.setdefault(inversion, threading.Lock())
        with turn(alone):
            with self._lock:
                found = self._kept.get(inversion)
            states = make() if found is None else found
            self.keep(inversion, states)
        return states


def _size(states: States) -> int:
    return sum(pair.x.nbytes + pair.y.nbytes for pair in states)
