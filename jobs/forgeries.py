"""Messages that are none: whoever can write to Redis can put anything into a queue.

kombu takes what comes out of a queue for its own JSON, and lets the whole consumer end where it is
not. A worker that ends has lost its jobs, and they become suspects (see `jobs.store.losing`), so
that a few bytes could make good jobs fail. Here such a message is dropped, as it has been taken
from its queue by then, and the consumer goes on.
"""

from queue import Empty
from typing import Any

import structlog
from kombu.transport import redis

from jobs.acknowledging import LettingGo

_log = structlog.get_logger()

_NO_MESSAGE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What reading something else as a message leads to."""


class CarefulChannel(redis.Channel):
    """Drops what cannot be read as a message, and lets go of what is done."""

    QoS = LettingGo

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except self.connection_errors:
            # Some of them are values' errors, too: of a certificate, say.
            raise
        except _NO_MESSAGE as error:
            _log.warning("message.dropped", reason=f"{type(error).__name__}: {error}"[:200])
            raise Empty from None


def be_careful() -> None:
    """Have all connections to Redis of this process drop them."""
    redis.Transport.Channel = CarefulChannel
