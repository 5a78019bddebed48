"""What people say of a result when they look at it."""

from enum import StrEnum


class Verdict(StrEnum):
    """At most one for each job; the last word counts."""

    APPROVED = "approved"
    REJECTED = "rejected"
