"""Firing times: cron expressions in a time zone, daylight saving included.

As Debian's cron does it: what falls into the hour that a clock jumps over fires right after the
jump, what falls into the hour that comes twice fires once, and `*` in the hours or minutes follows
the real time that passes.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from jobs.errors import InvalidInput

_FIELDS = 5
_EXAMPLE = "'0 2 * * *' is every night at two"


def check_times(cron: str, timezone: str) -> None:
    """Look whether both can be read.

    Raises:
        InvalidInput: names the field, the value and what is wrong.
    """
    zone_of(timezone)
    if len(cron.split()) != _FIELDS:
        raise InvalidInput("cron", f"{cron!r} has not five fields; {_EXAMPLE}")
    try:
        next(CronSim(cron, datetime.now(UTC)))
    except CronSimError as error:
        raise InvalidInput(
            "cron", f"{cron!r}: {error}; '0 2 * * *' is every night at two"
        ) from None
    except StopIteration:
        raise InvalidInput("cron", f"{cron!r} never comes; choose a day that exists") from None


def zone_of(timezone: str) -> ZoneInfo:
    """The time zone of that name.

    Raises:
        InvalidInput: there is none.
    """
    try:
        return ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):
        raise InvalidInput(
            "timezone", f"{timezone!r} is no time zone; use a name such as Europe/Berlin or UTC"
        ) from None


def times_after(cron: str, timezone: str, moment: datetime) -> Iterator[datetime]:
    """Every firing time after `moment`, in UTC, ascending."""
    last = moment
    for local in CronSim(cron, moment.astimezone(zone_of(timezone))):
        # Two times that fall into the skipped hour become one.
        if (time := local.astimezone(UTC)) > last:
            yield time
            last = time


def next_time(cron: str, timezone: str, moment: datetime) -> datetime:
    """The first firing time after `moment`, in UTC."""
    return next(times_after(cron, timezone, moment))


def in_words(cron: str) -> str:
    """What the expression says, in English."""
    return CronSim(cron, datetime.now(UTC)).explain()
