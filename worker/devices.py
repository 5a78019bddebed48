"""Which devices there are, and how a process is confined to one of them.

Confinement happens through the environment and the core set of a process that has not imported
torch yet: CUDA reads its variable once, OpenMP its thread count.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jobs.errors import ConfigurationError

TOOL_SECONDS = 30.0


@dataclass(frozen=True)
class Device:
    """One device, as a process of its own will see it."""

    name: str
    """Unique on this host, such as `cuda:1` or `cpu:0`."""
    torch_name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    cores: tuple[int, ...] = ()
    """CPU cores to run on; empty: any."""


def find_devices(wanted: Sequence[str]) -> list[Device]:
    """Turn `["0", "1"]`, `["cpu", "cpu"]` or `["all"]` into devices.

    `all` is every GPU, or one CPU device where there is no GPU.

    Raises:
        ConfigurationError: a GPU that is not there, a name that is none of these, or a driver
            that does not answer.
    """
    gpus = _gpus()
    names = list(wanted)
    if names == ["all"]:
        names = gpus or ["cpu"]
    cpus = _cpu_devices(names.count("cpu"))
    return [cpus.pop(0) if name == "cpu" else _gpu_device(name, gpus) for name in names]


def _gpu_device(name: str, gpus: Sequence[str]) -> Device:
    if name not in gpus:
        found = f"GPUs {', '.join(gpus)}" if gpus else "no GPU"
        raise ConfigurationError(
            f"device {name!r} is not there: this machine has {found}; "
            "use GPU numbers, 'cpu' (once for each process), or 'all'"
        )
    return Device(
        name=f"cuda:{name}",
        torch_name="cuda:0",
        environment={
            "CUDA_VISIBLE_DEVICES": name,
            # Number them as the driver's tool does, by slot; CUDA's own order is by speed.
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        },
    )


def _cpu_devices(count: int) -> list[Device]:
    """Share out the cores that we may use; a process has one at least."""
    cores = sorted(os.sched_getaffinity(0))
    shares = [tuple(cores[at::count]) or (cores[at % len(cores)],) for at in range(count)]
    return [
        Device(
            name=f"cpu:{at}",
            torch_name="cpu",
            environment={
                "CUDA_VISIBLE_DEVICES": "",
                "OMP_NUM_THREADS": str(len(share)),
                # Threads that spin while they wait take the core from those that work.
                "OMP_WAIT_POLICY": "PASSIVE",
            },
            cores=share,
        )
        for at, share in enumerate(shares)
    ]


def _gpus() -> list[str]:
    """Numbers of the NVIDIA GPUs, asked of the driver's tool so that torch stays out of here."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        answer = subprocess.run(
            [tool, "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=TOOL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ConfigurationError(
            f"{tool} has not answered for {TOOL_SECONDS:g} s: the GPU's driver hangs; "
            "look at it, or use the device 'cpu'"
        ) from None
    found = answer.stdout.split() if answer.returncode == 0 else []
    # A batch system may have lent us some of them only.
    lent = os.environ.get("CUDA_VISIBLE_DEVICES")
    return found if lent is None else [gpu for gpu in found if gpu in lent.split(",")]
