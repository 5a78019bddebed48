"""Signatures by which a receiver knows that a message is ours (standardwebhooks.com)."""

import binascii
import json
import secrets
from base64 import b64decode, b64encode
from datetime import UTC, datetime

from standardwebhooks import Webhook

from jobs.errors import ConfigurationError
from jobs.webhooks import Delivery

PREFIX = "whsec_"
BYTES = (24, 64)


def new_secret() -> str:
    """A secret that nobody has yet."""
    return PREFIX + b64encode(secrets.token_bytes(32)).decode()


class Signer:
    """Turns deliveries into signed requests.

    Raises ConfigurationError, which does not show the secret, for one that is none.
    """

    def __init__(self, secret: str) -> None:
        low, high = BYTES
        try:
            key = b64decode(secret.removeprefix(PREFIX), validate=True)
        except binascii.Error:
            key = b""
        if not low <= len(key) <= high:
            raise ConfigurationError(
                f"EDICT_WEBHOOK_SECRET is not {low} to {high} bytes in base64 after {PREFIX!r}; "
                "`edict webhooks secret` makes one"
            )
        self._webhook = Webhook(key)

    def sign(self, delivery: Delivery) -> tuple[bytes, dict[str, str]]:
        """The request's body and headers; the id is the same at every try."""
        now = datetime.now(UTC)
        name = f"msg_{delivery.id.hex}"
        body = json.dumps(delivery.payload, separators=(",", ":"))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "edict",
            "webhook-id": name,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._webhook.sign(name, now, body),
        }
        return body.encode(), headers
