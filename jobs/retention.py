"""What is kept how long, and what pruning did: policies and figures as callers see them."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

GLOBAL = "global"
"""Scope of a policy for every batch that has none of its own, and for jobs without a batch."""


class What(StrEnum):
    """What a policy speaks of."""

    RESULTS = "results"
    """Images that jobs made, and what lies beside them."""
    LATENTS = "latents"
    """Stored inversions; one goes when the last of the jobs that share it is due."""
    ROWS = "rows"
    """Jobs themselves, with all that they made, and sources that no other job names."""


@dataclass(frozen=True)
class Retention:
    """A policy."""

    what: What
    days: float | None
    """Since the job's end; None: until its results were exported."""
    batch: str | None = None
    """Name or id of the batch; None: the global policy."""


@dataclass(frozen=True)
class Deletion:
    """An object that is to leave the bucket, or left it a moment ago."""

    key: str
    digests: tuple[str, ...]
    """Of an inversion: inversion digests of the jobs that may use it."""
    marked_at: datetime
    deleted_at: datetime | None


@dataclass
class Amount:
    """So many objects, and their bytes."""

    objects: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """Count one more."""
        self.objects += 1
        self.bytes += size


@dataclass
class Plan:
    """What pruning would do now."""

    results: Amount = field(default_factory=Amount)
    latents: Amount = field(default_factory=Amount)
    rows: int = 0
    shared_latents: int = 0
    """Inversions whose time is up for some of their jobs, kept for others."""
