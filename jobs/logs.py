"""Logs: one line an event with a stable name, and the ids as fields. JSON unless a person looks."""

import logging
import sys
from contextlib import suppress

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
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if person else [_TRACEBACKS]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # Standard error as it is at each line: whoever redirects it gets the lines.
        logger_factory=lambda *_: _LossyLogger(sys.stderr),
    )
