"""Acknowledging a message while Redis is away.

kombu counts a message as in hand until Redis has heard that it is done, and takes no further one
while as many are in hand as it may have. Where Redis does not hear it, Celery logs that and goes
on: each message that ends in an outage would take its place for good, and a worker whose places
are all taken has nothing to read from, never meets the outage, and takes nothing ever again.

Here such a message is let go of. It comes back once its visibility timeout is over, and then finds
nothing to claim.
"""

import structlog
from kombu.transport import redis, virtual
from redis.exceptions import RedisError

_log = structlog.get_logger()


class LettingGo(redis.QoS):
    """Counts as done what was acknowledged, whether or not Redis heard it."""

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message; an outage is told, not raised."""
        try:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            _log.warning("message.unacknowledged", reason=reason)
            virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]
