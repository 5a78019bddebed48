"""`edict worker`: hands over to the worker package, which this one knows only by name."""

from importlib import import_module
from importlib.util import find_spec

import typer

from producer.cli.options import Devices, Home, MetricsPort, Model, device_names, examples
from producer.cli.signals import hurry_on_signals, stop_on_signals

EXAMPLES = examples(
    "edict worker                         [dim]every GPU of this machine, else one CPU worker[/]",
    "edict worker --devices 0,1",
    "edict worker --metrics-port 9401",
    "edict worker --devices cpu,cpu --model /models/stable-diffusion-v1-5",
)
NEEDED = ("torch", "diffusers", "transformers")


def worker(
    devices: Devices = "all",
    model: Model = None,
    home: Home = None,
    metrics_port: MetricsPort = None,
) -> None:
    """Run jobs: one process for each device, started again when it dies.

    Ctrl-C or SIGTERM ends it: jobs that can end within EDICT_STOP_GRACE_SECONDS do, the others go
    back to the queue. A second signal, or SIGQUIT, sends all of them back at once.
    """
    from jobs.logs import configure_logging
    from jobs.settings import load_settings

    check_installed()
    stop = stop_on_signals()
    hurry = hurry_on_signals(stop)
    configure_logging()
    settings = load_settings(home).require_services()
    run_workers = import_module("worker.main").run_workers
    told = {"stop": stop, "hurry": hurry, "metrics_port": metrics_port}
    raise typer.Exit(run_workers(settings, device_names(devices), model, **told))


def check_installed() -> None:
    """See that this environment has what workers need.

    Raises:
        ConfigurationError: names what is missing.
    """
    from jobs.errors import ConfigurationError

    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ConfigurationError(
            f"a worker needs {', '.join(missing)}, not installed here; "
            "run pip install 'edict[worker]'"
        )
