"""`edict up`: the embedded stack in the foreground."""

import time
from typing import TYPE_CHECKING

from rich.markup import escape

from producer.cli.options import Devices, Home, Json, Model, device_names, examples
from producer.cli.output import err, out, print_data, say
from producer.cli.signals import die_with_parent, interrupt_on_sigterm

if TYPE_CHECKING:
    from producer.embedded.stack import EmbeddedStack

EXAMPLES = examples(
    "edict up",
    "edict up --devices 0,1 --model /models/stable-diffusion-v1-5",
    "edict up --home /srv/edict &  edict submit edit cat.jpg --home /srv/edict …",
)
LOOK_SECONDS = 1.0
SHOWN = ("EDICT_DATABASE_URL", "EDICT_REDIS_URL", "EDICT_S3_ENDPOINT_URL", "EDICT_S3_BUCKET")


def up(
    devices: Devices = "cpu,cpu", model: Model = None, json: Json = False, home: Home = None
) -> None:
    """Run database, Redis, S3 and workers on this machine until Ctrl-C.

    Any other command finds them in the same folder, or with --home. Data stays when it stops.
    """
    from jobs.settings import load_settings
    from producer.embedded.stack import EmbeddedStack

    die_with_parent()
    interrupt_on_sigterm()
    settings = load_settings(home)
    models = settings.models if model is None else [model]
    with EmbeddedStack(settings.home, device_names(devices), models) as stack:
        _start(stack)
        if json:
            print_data({"home": str(stack.home), "environment": _shown(stack)})
        else:
            _tell(stack)
        _stay(stack)
    say("stopped; the data stays in " + escape(str(stack.home)))


def _start(stack: "EmbeddedStack") -> None:
    """Start the servers and processes, and say so."""
    with err.status("starting the servers …"):
        stack.start_services()
    with err.status("bringing the database up to date …"):
        stack.migrate()
    stack.start_processes()


def _shown(stack: "EmbeddedStack") -> dict[str, str]:
    """Where the services are, without passwords."""
    from jobs.settings import without_password

    environment = stack.environment()
    return {name: without_password(environment[name]) for name in SHOWN}


def _tell(stack: "EmbeddedStack") -> None:
    for name, shown in _shown(stack).items():
        out.print(f"[bold]{name}[/]  {escape(shown)}", highlight=False, soft_wrap=True)
    home = escape(str(stack.home))
    out.print(f"logs in {home}/logs", highlight=False, soft_wrap=True)
    out.print(
        f"in another shell:  edict submit edit cat.jpg --home {home} "
        "--from 'a photo of a cat' --to 'a pencil sketch of a cat' --wait",
        highlight=False,
        soft_wrap=True,
    )
    out.print("Ctrl-C stops everything", highlight=False)


def _stay(stack: "EmbeddedStack") -> None:
    try:
        while True:
            stack.check()
            time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        say("stopping; workers give back what they hold …")
