"""What the pipeline costs over the bare engine, and how soon a person's job is served.

    python -m bench.pipeline [--devices cpu,cpu] [--jobs 64] [--steps 50] [--bulk 5000] [--json]

Three figures, all on the same devices, at the editing setting (strength 0.8,
guidance 3):

* *efficiency*: images a second of the whole pipeline (submission, queue, storage, rows and all)
  over those of the engine alone, with the same images at once, in processes confined alike;
* *first claim*: from before a submission to the claim on an idle worker;
* *interactive*: from before a submission to the job's end, one job at a time, while ``--bulk`` jobs
  of low priority are queued and run, over the same on an idle pipeline.

``--model tests/reference/tiny-sd --jobs 16 --steps 4 --bulk 200`` is a quick trial. ``--samples 0``
measures the efficiency only, ``--jobs 0`` all but that.
"""

import argparse
import json
import math
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.pipeline import bare
from bench.pipeline.deployed import SMALL, Deployed, Latency, deployed
from bench.pipeline.work import Work
from producer.client import MAX_PRIORITY

BULK_PICTURES = 16


@dataclass(frozen=True)
class Speeds:
    """Images a second."""

    engine: float
    pipeline: float

    def summary(self) -> dict[str, Any]:
        """Return what ``--json`` prints of it."""
        return {
            "efficiency": self.pipeline / self.engine,
            "engine_images_per_second": self.engine,
            "pipeline_images_per_second": self.pipeline,
        }


@dataclass(frozen=True)
class Latencies:
    """Of single jobs; ``loaded`` beside ``bulk`` others, if that was asked for."""

    claims: Latency
    idle: Latency
    loaded: Latency | None
    bulk: int

    def summary(self) -> dict[str, Any]:
        """Return what ``--json`` prints of it."""
        return {
            "first_claim_ms": 1_000 * statistics.median(self.claims.to_claim),
            "interactive_p50_ratio": self._ratio(0.5),
            "interactive_p95_ratio": self._ratio(0.95),
            "interactive_late": None if self.loaded is None else self.loaded.late,
            "first_claim_ms_p95": 1_000 * quantile(self.claims.to_claim, 0.95),
            "idle_seconds": self.idle.to_end,
            "loaded_seconds": None if self.loaded is None else self.loaded.to_end,
            "bulk_jobs": self.bulk,
        }

    def _ratio(self, share: float) -> float | None:
        if self.loaded is None:
            return None
        return quantile(self.loaded.to_end, share) / quantile(self.idle.to_end, share)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of them does not pass."""
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1]


def measure(options: argparse.Namespace) -> tuple[Speeds | None, Latencies | None]:
    """Run the bare engine, then the pipeline; what was not asked for is None."""
    devices = options.devices.split(",")
    work = Work(max(1, options.jobs // options.edits), options.edits, options.steps)
    engine = bare.images_per_second(options.model, devices, work) if options.jobs else None
    with deployed(options.model, devices) as running:
        speeds = engine and Speeds(engine, running.images_per_second(work))
        return speeds or None, _latencies(running, work, options) if options.samples else None


def _latencies(running: Deployed, work: Work, options: argparse.Namespace) -> Latencies:
    claims = running.latencies(options.samples, SMALL, options.patience)
    idle = running.latencies(options.samples, work, options.patience, MAX_PRIORITY)
    loaded, bulk = _under_load(running, work, options) if options.bulk else (None, 0)
    return Latencies(claims, idle, loaded, bulk)


def _under_load(running: Deployed, work: Work, options: argparse.Namespace) -> tuple[Latency, int]:
    pictures = min(BULK_PICTURES, options.bulk)
    edits = -(-options.bulk // pictures)
    with running.bulk(Work(pictures, edits, work.steps)) as bulk:
        return running.latencies(options.samples, work, options.patience, MAX_PRIORITY), bulk


def show_speeds(speeds: Speeds, title: str) -> None:
    """Print the table of the efficiency."""
    table = Table("", "images/s", "share of the engine", title=title)
    rows = (("engine alone", speeds.engine), ("whole pipeline", speeds.pipeline))
    for name, speed in rows:
        table.add_row(name, f"{speed:.3g}", f"{speed / speeds.engine:.3f}")
    Console().print(table)


def show_latencies(found: Latencies, title: str) -> None:
    """Print the table of single jobs."""
    table = Table("one job at a time, seconds", "jobs", "late", "median", "p95", title=title)
    rows = [
        ("submission to claim, idle", found.claims.to_claim, found.claims.late),
        ("submission to end, idle", found.idle.to_end, found.idle.late),
    ]
    if found.loaded is not None:
        name = f"submission to end, {found.bulk} bulk jobs"
        rows.append((name, found.loaded.to_end, found.loaded.late))
    for name, values, late in rows:
        middle, high = quantile(values, 0.5), quantile(values, 0.95)
        table.add_row(name, str(len(values)), str(late), f"{middle:.3f}", f"{high:.3f}")
    Console().print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.pipeline",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="demo")
    parser.add_argument("--devices", default="cpu,cpu", help="as of `edict worker`")
    parser.add_argument("--jobs", type=int, default=64, help="edited images; 0: no efficiency")
    parser.add_argument("--edits", type=int, default=4, help="edits of each image")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--samples", type=int, default=12, help="jobs behind each latency")
    parser.add_argument("--bulk", type=int, default=5_000, help="0 leaves that table out")
    parser.add_argument(
        "--patience", type=float, default=120.0, help="seconds that a single job is waited for"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    speeds, latencies = measure(options)
    if options.json:
        found: dict[str, Any] = speeds.summary() if speeds else {}
        print(json.dumps(found | (latencies.summary() if latencies else {})))
        return
    title = f"{options.model}, {options.devices}, {options.steps} steps, {cpu()}"
    if speeds:
        show_speeds(speeds, title)
    if latencies:
        show_latencies(latencies, title)


def cpu() -> str:
    """Say which processor this is."""
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
