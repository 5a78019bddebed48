"""Keys of the HTTP API: who may do what, and how a key is known again.

A key is 32 random bytes, shown once. The database keeps its SHA-256: a quick digest is enough for
what nobody can guess, and what leaks from the table opens nothing.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from jobs.errors import InvalidInput

PREFIX = "edict_"
"""Lets scanners for leaked secrets know one."""

MAX_TENANT_CHARACTERS = 40
_TENANT = re.compile(rf"[a-z0-9][a-z0-9-]{{0,{MAX_TENANT_CHARACTERS - 1}}}")


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
class Quota:
    """How much a key may ask for; None: no limit."""

    max_requests: int | None = None
    """A minute."""
    max_live: int | None = None
    """Jobs of its tenant that have not ended, at once; of all, where it has no tenant."""
    max_jobs: int | None = None
    """Submitted in 24 hours."""
    max_bytes: int | None = None
    """Uploaded, or copied into the bucket from elsewhere, in 24 hours."""


NO_QUOTA = Quota()


@dataclass(frozen=True)
class ApiKey:
    """A key as its row says; never the key itself."""

    id: UUID
    name: str
    scope: Scope
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    tenant: str | None = None
    """Whose jobs and batches it sees; None: everybody's."""
    quota: Quota = NO_QUOTA

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


def check_tenant(name: str) -> str:
    """Look whether a tenant may have that name.

    Raises:
        InvalidInput: says which may.
    """
    if not _TENANT.fullmatch(name):
        raise InvalidInput(
            "tenant",
            f"must be 1 to {MAX_TENANT_CHARACTERS} small letters, digits and hyphens, the first no "
            f"hyphen (got {name!r:.80})",
        )
    return name


def new_key() -> str:
    """Make a key."""
    return PREFIX + secrets.token_urlsafe(32)


def key_digest(key: str) -> str:
    """What the database knows of a key."""
    return hashlib.sha256(key.encode()).hexdigest()
