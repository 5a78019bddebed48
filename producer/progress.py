"""Progress of many jobs: a live line on a terminal, plain lines anywhere else."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from jobs.states import ENDED, LIVE, State
from producer.text import seconds_text

LOOK_SECONDS = 0.5
LINE_SECONDS = 5.0
"""Plain lines come no more often than this, and only when something changed."""

ESTIMATE_SHARE = 0.1
"""Share of the jobs that must have ended before the time left is estimated."""

Counts = Mapping[State, int]


@dataclass(frozen=True)
class Pace:
    """How fast jobs end, from the first sight of a running one on."""

    per_second: float | None
    seconds_left: float | None

    def __str__(self) -> str:
        if self.per_second is None:
            return ""
        left = (
            "" if self.seconds_left is None else f" · about {seconds_text(self.seconds_left)} left"
        )
        return f"{self.per_second:.2f} images/s{left}"


class Pacemaker:
    """Measures the pace. Time before any job ran is not counted: workers were still loading."""

    def __init__(self) -> None:
        self._since: tuple[float, int] | None = None

    def pace(self, counts: Counts, now: float) -> Pace:
        """The pace up to `now`, a clock's seconds."""
        done, live = _sum(counts, ENDED), _sum(counts, LIVE)
        if self._since is None and (counts[State.RUNNING] or not live):
            self._since = (now, done)
        if self._since is None or done <= self._since[1] or now <= self._since[0]:
            return Pace(None, None)
        new = done - self._since[1]
        per_second = new / (now - self._since[0])
        # Jobs end in bursts: an estimate from the first few would be out by an hour.
        telling = live and new >= ESTIMATE_SHARE * (done + live)
        return Pace(per_second, live / per_second if telling else None)


class Display(Protocol):
    """Shows how things stand."""

    def show(self, counts: Counts, note: str, pace: Pace) -> None:
        """Called at every look."""


class _Live:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None, counts="", pace="")

    def show(self, counts: Counts, note: str, pace: Pace) -> None:
        self._progress.update(
            self._task,
            description=note,
            total=sum(counts.values()) or None,
            completed=_sum(counts, ENDED),
            counts=counts_text(counts),
            pace=str(pace),
        )


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = ("", float("-inf"))

    def show(self, counts: Counts, note: str, pace: Pace) -> None:
        line = f"{note}: {counts_text(counts)}"
        now = time.monotonic()
        said, when = self._last
        over = not _sum(counts, LIVE)
        if line != said and (over or now - when >= LINE_SECONDS):
            self._last = (line, now)
            suffix = f" · {pace}" if str(pace) else ""
            self._console.print(line + suffix, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def display(console: Console) -> Iterator[Display]:
    """A display that fits the console."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[counts]}", markup=False),
        TextColumn("[dim]{task.fields[pace]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Live(progress)


def follow(counts: Callable[[], Counts], console: Console, note: Callable[[Counts], str]) -> Counts:
    """Show `counts()` until nothing is live any more; `note` says in words what is going on.

    Whatever `counts` or `note` raise ends it.
    """
    pacemaker = Pacemaker()
    with display(console) as shown:
        while True:
            now = counts()
            shown.show(now, note(now), pacemaker.pace(now, time.monotonic()))
            if not _sum(now, LIVE):
                return now
            time.sleep(LOOK_SECONDS)


def counts_text(counts: Counts) -> str:
    """`12/48 done, 4 running, 1 failed`: zeros are left out where they say nothing."""
    parts = [f"{_sum(counts, ENDED)}/{sum(counts.values())} done"]
    if _sum(counts, LIVE):
        parts.append(f"{counts[State.RUNNING]} running")
    parts.append(f"{counts[State.FAILED]} failed")
    if counts[State.CANCELLED]:
        parts.append(f"{counts[State.CANCELLED]} cancelled")
    return ", ".join(parts)


def all_succeeded(counts: Counts) -> bool:
    """Whether every job ended well."""
    return sum(counts.values()) == counts[State.SUCCEEDED]


def _sum(counts: Counts, states: tuple[State, ...]) -> int:
    return sum(counts[state] for state in states)
