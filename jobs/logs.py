"""Logs: one line an event with a stable name, and the ids as fields. JSON unless a person looks.

Every change of a job's state is a line with `job` (or `jobs`), of a worker with `batch`, `worker`
and `device`, too. What looks like a secret is starred wherever it stands: errors quote URLs.
"""

import logging
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import structlog
import structlog.tracebacks


class _LossyLogger(structlog.PrintLogger):
    """Loses a line that cannot be written: a full disk under the log must not stop any work."""

    def msg(self, message: str) -> None:
        """Print the line, if there is room for it."""
        with suppress(OSError):
            super().msg(message)

    log = debug = info = warn = warning = fatal = failure = err = error = critical = exception = msg


# Without local variables: a driver's hold its password.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


_SECRETS = (
    # The user and password of a URL.
    (re.compile(r"(?<=://)[^/\s@]*:[^\s@]*@"), "***@"),
    # Parameters of a URL or a connection string; presigned URLs have the first three.
    (
        re.compile(
            r"(?i)\b(x-amz-signature|x-amz-credential|x-amz-security-token|signature|"
            r"password|passwd|pwd|secret|secret_access_key|api_key)=[^&;\s'\"]+"
        ),
        r"\1=***",
    ),
    # Keys of the HTTP API, of webhooks, and whatever a header bears.
    (re.compile(r"\bedict_[A-Za-z0-9_-]{40,}"), "edict_***"),
    (re.compile(r"\bwhsec_[A-Za-z0-9+/=]+"), "whsec_***"),
    (re.compile(r"(?i)\b(authorization\W{1,4}(?:bearer|basic)) [^\s'\",]+"), r"\1 ***"),
)


def redact(value: Any) -> Any:
    """The same with stars in place of secrets, however deep in lists and mappings."""
    if isinstance(value, str):
        for pattern, stars in _SECRETS:
            value = pattern.sub(stars, value)
        return value
    if isinstance(value, Mapping):
        return {name: redact(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [redact(each) for each in value]
    return value


def _redact(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return {name: redact(value) for name, value in event.items()}


_process: dict[str, str] = {}


def name_process(**fields: str) -> None:
    """Have every further line of this process, whichever thread writes it, bear these fields."""
    _process.update(fields)


def _named(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return {**_process, **event}


def configure_logging(level: int = logging.INFO) -> None:
    """Send structlog's events to standard error; called once, by entry points only."""
    person = sys.stderr.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if person
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _named,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if person else [_TRACEBACKS]),
            _redact,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # Standard error as it is at each line: whoever redirects it gets the lines.
        logger_factory=lambda *_: _LossyLogger(sys.stderr),
    )
