"""`edict control`: announces due jobs and brings back lost ones."""

import typer

from producer.cli.options import Home, MetricsPort, examples
from producer.cli.signals import stop_on_signals

EXAMPLES = examples(
    "edict control",
    "EDICT_DATABASE_URL=postgresql://… EDICT_REDIS_URL=redis://… edict control",
    "edict control --metrics-port 9400",
)


def control(home: Home = None, metrics_port: MetricsPort = None) -> None:
    """Announce jobs that are due, and bring back those of dead workers and lost messages.

    Every deployment needs one; two are harmless. Ctrl-C or SIGTERM ends it.
    """
    from jobs.logs import configure_logging
    from jobs.settings import load_settings
    from jobs.tracing import start_tracing
    from producer.control.process import run_control

    stop = stop_on_signals()
    configure_logging()
    settings = load_settings(home).require_services()
    start_tracing(settings, "control")
    raise typer.Exit(run_control(settings, stop, metrics_port=metrics_port))
