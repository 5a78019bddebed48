"""Keys of the HTTP API: who may do what, and how a key is known again.

A key is 32 random bytes, shown once. The database keeps its SHA-256: a quick digest is enough for
what nobody can guess, and what leaks from the table opens nothing.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

PREFIX = "edict_"
"""Lets scanners for leaked secrets know one."""


class Scope(StrEnum):
    """What a key may do; each may do what those before it may."""

    READ = "read"
    """Look at everything."""
    SUBMIT = "submit"
    """Make jobs and batches."""
    ADMIN = "admin"
    """Steer what anybody made: cancel, retry, pause, resume."""

    def covers(self, needed: "Scope") -> bool:
        """Whether this one is enough where `needed` is asked for."""
        order = list(Scope)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True)
class ApiKey:
    """A key as its row says; never the key itself."""

    id: UUID
    name: str
    scope: Scope
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    def is_live(self, now: datetime) -> bool:
        """Whether it opens anything."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True)
class Answer:
    """What was answered to a request, to be answered again to its repetition."""

    status: int
    body: str
    location: str | None
    media_type: str


def new_key() -> str:
    """Make a key."""
    return PREFIX + secrets.token_urlsafe(32)


def key_digest(key: str) -> str:
    """What the database knows of a key."""
    return hashlib.sha256(key.encode()).hexdigest()
