"""Entry of one device's process: `python -m worker`, started by the supervisor only.

The core set is taken before anything imports torch, which looks at it once.
"""

import argparse
import os
import sys

from jobs.errors import JobsError, ServiceUnavailable
from jobs.logs import configure_logging
from jobs.settings import load_settings
from jobs.tracing import start_tracing, stop_tracing


def main() -> int:
    """Confine this process, then work; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    parser.add_argument("--device", required=True, help="name to report, such as cuda:1")
    parser.add_argument("--torch-device", required=True, help="what torch calls it: cpu or cuda:0")
    parser.add_argument("--model", required=True, help="folder or hub id, @revision pins one")
    parser.add_argument("--cores", default="", help="CPU cores to run on, such as 0,2")
    arguments = parser.parse_args()
    if arguments.cores:
        os.sched_setaffinity(0, {int(core) for core in arguments.cores.split(",")})
    configure_logging()

    from edict_engine.errors import EngineError, ModelUnreachable
    from worker.process import run_process
    from worker.stopping import exit_now

    try:
        settings = load_settings().require_services()
        start_tracing(settings, "worker", **{"edict.device": arguments.device})
        status = run_process(
            settings,
            model=arguments.model,
            device=arguments.device,
            torch_device=arguments.torch_device,
        )
    except (EngineError, JobsError) as error:
        sys.stderr.write(f"worker {arguments.device}: {error}\n")
        # The supervisor does not start a process again that says EX_CONFIG.
        may_pass = isinstance(error, ServiceUnavailable | ModelUnreachable)
        status = os.EX_TEMPFAIL if may_pass else os.EX_CONFIG
    stop_tracing()
    exit_now(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
