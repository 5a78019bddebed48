"""What the pipeline costs over the bare engine, and how soon a person's job is served.

    python -m bench.pipeline [--devices cpu,cpu] [--jobs 64] [--steps 50] [--bulk 5000] [--json]

Three figures, all in one run on the same devices, at the editing setting (strength 0.8,
guidance 3):

* *efficiency*: images a second of the whole pipeline (submission, queue, storage, rows and all)
  over those of the engine alone, with the same images at once, in processes confined alike;
* *first claim*: from before a submission to the claim on an idle worker;
* *interactive*: from before a submission to the job's end, one job at a time, while ``--bulk`` jobs
  of low priority are queued and run, over the same on an idle pipeline.

``--model tests/reference/tiny-sd --jobs 16 --steps 4 --bulk 200`` is a quick trial.
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
class Figures:
    """All that one run measured. Speeds are in images a second, times in seconds."""

    engine_speed: float
    pipeline_speed: float
    claims: Latency
    idle: Latency
    loaded: Latency | None
    bulk: int

    def summary(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {
            "efficiency": self.pipeline_speed / self.engine_speed,
            "first_claim_ms": 1_000 * statistics.median(self.claims.to_claim),
            "interactive_p50_ratio": self._ratio(0.5),
            "interactive_p95_ratio": self._ratio(0.95),
            "interactive_late": None if self.loaded is None else self.loaded.late,
            "engine_images_per_second": self.engine_speed,
            "pipeline_images_per_second": self.pipeline_speed,
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


def measure(options: argparse.Namespace) -> Figures:
    """Run the bare engine, then the pipeline."""
    devices = options.devices.split(",")
    work = Work(max(1, options.jobs // options.edits), options.edits, options.steps)
    engine_speed = bare.images_per_second(options.model, devices, work)
    with deployed(options.model, devices) as running:
        pipeline_speed = running.images_per_second(work)
        claims = running.latencies(options.samples, SMALL, options.patience)
        idle = running.latencies(options.samples, work, options.patience, MAX_PRIORITY)
        loaded, bulk = _under_load(running, work, options) if options.bulk else (None, 0)
    return Figures(engine_speed, pipeline_speed, claims, idle, loaded, bulk)


def _under_load(running: Deployed, work: Work, options: argparse.Namespace) -> tuple[Latency, int]:
    pictures = min(BULK_PICTURES, options.bulk)
    edits = -(-options.bulk // pictures)
    with running.bulk(Work(pictures, edits, work.steps)) as bulk:
        return running.latencies(options.samples, work, options.patience, MAX_PRIORITY), bulk


def show(figures: Figures, title: str) -> None:
    """Print the tables."""
    console = Console()
    speeds = Table("", "images/s", "share of the engine", title=title)
    for name, speed in (
        ("engine alone", figures.engine_speed),
        ("whole pipeline", figures.pipeline_speed),
    ):
        speeds.add_row(name, f"{speed:.3g}", f"{speed / figures.engine_speed:.3f}")
    console.print(speeds)
    times = Table("one job at a time", "jobs", "late", "median", "p95", title="Seconds")
    rows = [
        ("submission to claim, idle", figures.claims.to_claim, figures.claims.late),
        ("submission to end, idle", figures.idle.to_end, figures.idle.late),
    ]
    if figures.loaded is not None:
        name = f"submission to end, {figures.bulk} bulk jobs"
        rows.append((name, figures.loaded.to_end, figures.loaded.late))
    for name, values, late in rows:
        middle, high = quantile(values, 0.5), quantile(values, 0.95)
        times.add_row(name, str(len(values)), str(late), f"{middle:.3f}", f"{high:.3f}")
    console.print(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.pipeline",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="demo")
    parser.add_argument("--devices", default="cpu,cpu", help="as of `edict worker`")
    parser.add_argument("--jobs", type=int, default=64, help="edited images")
    parser.add_argument("--edits", type=int, default=4, help="edits of each image")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--samples", type=int, default=20, help="jobs behind each latency")
    parser.add_argument("--bulk", type=int, default=5_000, help="0 leaves that table out")
    parser.add_argument(
        "--patience", type=float, default=120.0, help="seconds that a single job is waited for"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    figures = measure(options)
    if options.json:
        print(json.dumps(figures.summary()))
    else:
        show(figures, f"{options.model}, {options.devices}, {options.steps} steps, {cpu()}")


def cpu() -> str:
    """Say which processor this is."""
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
