"""Compare samplers on images: `python -m worker.quality`, started by `edict eval`.

Signals are taken before anything imports torch, which takes seconds.
"""

import argparse
import signal
import sys
import threading
from pathlib import Path

#: As a shell reports what Ctrl-C ended.
INTERRUPTED = 130
#: What the user should write differently, as usage errors have it.
WRONG_INPUT = 2


def main() -> int:
    """Compare; returns the exit status."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    arguments = _parser().parse_args()

    from edict_engine.errors import Cancelled, EngineError
    from worker.quality import report
    from worker.quality.inputs import InputError

    try:
        return _run(arguments, stop)
    except Cancelled:
        report.say("stopped")
        return INTERRUPTED
    except (EngineError, InputError) as error:
        report.complain(str(error))
        return WRONG_INPUT


def _run(arguments: argparse.Namespace, stop: threading.Event) -> int:
    from edict_engine.parameters import SamplerParameters
    from worker.quality.commands import Settings, compare_edits, compare_reconstructions

    parameters = SamplerParameters(
        steps=arguments.steps, strength=arguments.strength, guidance=arguments.guidance
    )
    settings = Settings(
        model=arguments.model,
        dtype=arguments.dtype,
        device=arguments.device,
        rows=arguments.rows,
        size=arguments.size,
        limit=arguments.limit,
        json=arguments.json,
    )
    if arguments.command == "edits":
        return compare_edits(settings, parameters, arguments.manifest, arguments.clip, stop)
    return compare_reconstructions(
        settings, parameters, arguments.folder, arguments.prompt, arguments.captions, stop
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m worker.quality", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    reconstruction = commands.add_parser("reconstruction")
    reconstruction.add_argument("folder", type=Path)
    reconstruction.add_argument("--prompt", help="what every image shows")
    reconstruction.add_argument("--captions", type=Path, help="JSONL of image and prompt")
    edits = commands.add_parser("edits")
    edits.add_argument("manifest", type=Path)
    edits.add_argument("--clip", type=Path, help="folder of a CLIP model")
    for command in (reconstruction, edits):
        command.add_argument("--model", required=True, help="demo, a folder or a hub id")
        command.add_argument("--dtype", required=True, help="the network's precision")
        command.add_argument("--device", required=True, help="auto, cpu, cuda or cuda:1")
        command.add_argument("--steps", type=int, required=True)
        command.add_argument("--strength", type=float, required=True)
        command.add_argument("--guidance", type=float, required=True)
        command.add_argument("--rows", type=int, required=True, help="rows of a batch")
        command.add_argument("--size", type=int, help="pixels of a side")
        command.add_argument("--limit", type=int, help="how many images")
        command.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
