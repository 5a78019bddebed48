"""The supervisor: one process for each device, started again when it dies.

It imports no torch and touches no device, so that nothing of a broken device process is left when
the next one starts. When the supervisor itself is killed, the kernel tells its children.
"""

import os
import sys
import threading
import time
from collections.abc import Sequence

import structlog

from jobs.errors import ConfigurationError
from jobs.processes import Child
from jobs.settings import Settings
from worker.devices import Device, find_devices
from worker.exposition import Exposition, exposition

POLL_SECONDS = 0.2
STOP_SECONDS = 20.0
"""What a device process may need beyond its grace period."""
RESTART_SECONDS = 1.0
RESTART_LIMIT_SECONDS = 60.0
STEADY_SECONDS = 60.0
"""A process that lived this long is started again at once; others wait twice as long each time."""

_log = structlog.get_logger()


class DeviceProcess:
    """The process of one device, through all its lives."""

    def __init__(self, device: Device, child: Child, told: Exposition) -> None:
        self.device = device
        self.beyond_help = False
        self._child = child
        self._told = told
        self._delay = RESTART_SECONDS
        self._started_at = 0.0
        self._due_at = time.monotonic()

    def tend(self) -> None:
        """Start the process if it is due; plan its next life if it has died."""
        now = time.monotonic()
        if self.beyond_help or self._child.is_running:
            return
        if self._started_at and self._due_at <= self._started_at:
            self._plan(now)
        elif now >= self._due_at:
            self._started_at = now
            self._child.start()
            _log.info("device.started", device=self.device.name, pid=self._child.pid)

    def _plan(self, now: float) -> None:
        status = self._child.poll()
        self._told.forget_moment_of(self._child.pid)
        if status == os.EX_CONFIG:
            self.beyond_help = True
            _log.error("device.beyond_help", device=self.device.name, status=status)
            return
        if now - self._started_at > STEADY_SECONDS:
            self._delay = RESTART_SECONDS
        self._due_at = now + self._delay
        _log.error("device.died", device=self.device.name, status=status, restart_in=self._delay)
        self._delay = min(self._delay * 2, RESTART_LIMIT_SECONDS)

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._child.is_running

    def terminate(self) -> None:
        """Ask the process to stop, without waiting; asked again, it hurries."""
        self._child.terminate()

    def stop(self, timeout: float) -> None:
        """Stop the process; after `timeout` seconds it is killed."""
        self._child.stop(timeout)


def run_workers(
    settings: Settings,
    devices: Sequence[str],
    model: str | None = None,
    *,
    stop: threading.Event | None = None,
    hurry: threading.Event | None = None,
    metrics_port: int | None = None,
) -> int:
    """Supervise a process for each device until `stop` is set; returns the exit status.

    Processes that are stopping give back at once what they hold when `hurry` is set, too. With
    `metrics_port`, tell Prometheus there what they do.

    Raises:
        ConfigurationError: a device is not there, the port is taken, or every process says that
            its settings or its model are wrong.
    """
    settings.require_services()
    with exposition(metrics_port) as told:
        processes = [
            DeviceProcess(
                device, _child(settings, device, model or settings.default_model, told), told
            )
            for device in find_devices(devices)
        ]
        _supervise(processes, settings, stop or threading.Event(), hurry or threading.Event())
    return 0


def _supervise(
    processes: Sequence[DeviceProcess],
    settings: Settings,
    stopping: threading.Event,
    hurry: threading.Event,
) -> None:
    try:
        while not stopping.is_set():
            for process in processes:
                process.tend()
            if all(process.beyond_help for process in processes):
                raise ConfigurationError(
                    "no device process can work with these settings; see its message above"
                )
            stopping.wait(POLL_SECONDS)
    finally:
        _log.info("worker.stopping", grace_seconds=settings.stop_grace_seconds)
        _stop(processes, settings.stop_grace_seconds + STOP_SECONDS, hurry)


def _child(settings: Settings, device: Device, model: str, told: Exposition) -> Child:
    command = [sys.executable, "-m", "worker", "--device", device.name]
    command += ["--torch-device", device.torch_name, "--model", model]
    if device.cores:
        command += ["--cores", ",".join(map(str, device.cores))]
    environment = {
        **os.environ,
        **device.environment,
        **told.environment,
        "EDICT_HOME": str(settings.home.resolve()),
    }
    return Child(f"worker {device.name}", command, environment=environment)


def _stop(processes: Sequence[DeviceProcess], timeout: float, hurry: threading.Event) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + timeout
    while any(process.is_running for process in processes) and time.monotonic() < deadline:
        if hurry.wait(POLL_SECONDS):
            for process in processes:
                process.terminate()
            time.sleep(POLL_SECONDS)
    for process in processes:
        process.stop(max(0.0, deadline - time.monotonic()))
