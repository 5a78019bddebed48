"""What workers tell Prometheus of their own work; what the rows know, control tells.

Every device process writes its figures into files of one folder (`prometheus_client`'s
multi-process mode); the supervisor, which outlives them all, adds them up and answers scrapes. A
device process that was killed leaves its counts behind, and nothing of what it had at the moment.
"""

import resource
import threading
from typing import Self

import structlog
import torch
from prometheus_client import Counter, Gauge, Histogram

from edict_engine.engine import Engine
from jobs.results import Result

SAMPLE_SECONDS = 2.0

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)

ENDS = Counter("edict_worker_jobs", "Claimed jobs that left this worker, by outcome.", ["outcome"])
PHASES = Histogram(
    "edict_worker_phase_seconds",
    "Seconds of jobs that succeeded, by phase.",
    ["phase"],
    buckets=_SECONDS,
)
CLAIMS = Histogram(
    "edict_worker_claim_seconds",
    "Seconds from a job's announcement to its claim.",
    buckets=_SECONDS,
)
INVERSIONS = Counter(
    "edict_worker_inversions", "Inversions that jobs needed: made here, or reused.", ["how"]
)
LOST = Counter("edict_worker_leases_lost", "Jobs that were cancelled or taken over meanwhile.")
ROWS_BUSY = Gauge(
    "edict_worker_rows_busy",
    "Rows of the network's batches that have work.",
    ["device"],
    multiprocess_mode="livesum",
)
MEMORY = Gauge(
    "edict_worker_memory_bytes",
    "Memory of the device that is taken; on a CPU, the most that the process had.",
    ["device"],
    multiprocess_mode="livesum",
)
UTILISATION = Gauge(
    "edict_worker_utilisation_ratio",
    "Share of the last moment in which a GPU computed.",
    ["device"],
    multiprocess_mode="livesum",
)
"""No device of a CPU has one."""

_log = structlog.get_logger()


def job_succeeded(result: Result) -> None:
    """Count a job that ended well, and where its time went."""
    ENDS.labels("succeeded").inc()
    INVERSIONS.labels("reused" if result.inversion_reused else "made").inc()
    for phase, seconds in result.seconds.items():
        PHASES.labels(phase).observe(seconds)


class DeviceSampler:
    """Looks at the device every other second."""

    def __init__(self, engine: Engine, device: str, torch_device: torch.device) -> None:
        self._engine = engine
        self._device = device
        self._torch_device = torch_device
        self._unread = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                self._look()
                self._unread = ""
            except Exception as error:
                # Figures are no reason to stop, and a lost device is noticed by those who use it.
                self._tell(str(error))
            if self._stop.wait(SAMPLE_SECONDS):
                return

    def _tell(self, reason: str) -> None:
        """Once, and not every other second: a slice of a GPU (MIG) never tells its utilisation."""
        if reason != self._unread:
            _log.warning("device.unread", device=self._device, reason=reason)
        self._unread = reason

    def _look(self) -> None:
        ROWS_BUSY.labels(self._device).set(self._engine.busy_rows)
        if self._torch_device.type != "cuda":
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024
            MEMORY.labels(self._device).set(peak)
            return
        free, total = torch.cuda.mem_get_info(self._torch_device)
        MEMORY.labels(self._device).set(total - free)
        # Asked before there is a series: where nothing is known, 0 would be a lie.
        percent = torch.cuda.utilization(self._torch_device)
        UTILISATION.labels(self._device).set(percent / 100)
