"""Webhooks: callbacks when a job or a batch has ended.

A subscription (`webhooks`) says who wants to know. The transaction that ends a job also writes a
delivery (`webhook_deliveries`) for each subscription, so that no end goes untold, whatever dies.
The control process sends deliveries (`producer.webhooks`), at least once each: receivers know a
repetition by its `webhook-id`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from urllib.parse import SplitResult, urlsplit
from uuid import UUID

from jobs.addresses import Network, may_be_called, parse_address
from jobs.errors import InvalidInput

MAX_URL_CHARACTERS = 2_048
BATCH_ENDED = "batch.ended"

ALLOW = "if it may be called, add it to EDICT_WEBHOOK_ALLOW"

_URL_CHARACTERS = re.compile(r"[!-~]+")


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    """To be sent, or to be sent again, when it is due."""
    DELIVERED = "delivered"
    """The receiver answered with success."""
    FAILED = "failed"
    """Given up: refused, or not taken at the last attempt."""


@dataclass(frozen=True)
class Delivery:
    """A message to a receiver, as its row says."""

    id: UUID
    job_id: UUID | None
    batch_id: UUID | None
    url: str
    event: str
    """`job.succeeded`, `job.failed`, `job.cancelled` or `batch.ended`."""
    payload: dict[str, Any]
    state: DeliveryState
    attempts: int
    created_at: datetime
    due_at: datetime
    delivered_at: datetime | None
    response_status: int | None
    """HTTP status of the last answer; None where there was none."""
    error: str | None


def check_webhook_url(url: str, allowed: Iterable[Network] = ()) -> SplitResult:
    """Take a webhook's URL apart. What its name resolves to is looked at when it is called.

    Raises:
        InvalidInput: it is no URL, not http(s), holds a password, or names a private address.
    """
    if len(url) > MAX_URL_CHARACTERS or not _URL_CHARACTERS.fullmatch(url):
        raise _refused(
            url, f"must be 1 to {MAX_URL_CHARACTERS} printable ASCII characters without spaces"
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _refused(url, str(error)) from None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise _refused(url, "must be of the form https://host/path")
    if "@" in parts.netloc:
        # Not shown: it holds a password.
        raise InvalidInput(
            "webhook",
            "the URL holds a user or a password, which would be seen in lists; "
            "messages are signed instead, see EDICT_WEBHOOK_SECRET",
        )
    address = parse_address(host)
    if address is not None and not may_be_called(address, allowed):
        raise _refused(url, f"{host} is not a public address; {ALLOW}")
    return parts


def shown_url(url: str) -> str:
    """The URL as logs and lists may show it: a query may hold a token."""
    base, mark, _ = url.partition("?")
    return base + (mark and "?…")


def _refused(url: str, problem: str) -> InvalidInput:
    return InvalidInput("webhook", f"{problem} (got {shown_url(url)!r:.120})")
