"""What the sampler tells of a GPU, asked of NVML by the real package; the driver's library is ours.

CUDA itself is not needed: NVML is another library, which `nvidia-ml-py` loads by its name.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LIBRARY = """
#include <stdlib.h>
typedef struct { unsigned int gpu, memory; } Rates;

int nvmlInitWithFlags(unsigned int flags) { return 0; }
const char *nvmlErrorString(int code) { return "Not Supported"; }

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    *device = (void *)(long)(index + 1);
    return 0;
}

/* The GPU of number n is busy for 10 * n + 5 percent of the time. */
int nvmlDeviceGetUtilizationRates(void *device, Rates *rates) {
    if (getenv("SLICED")) return 3; /* NVML_ERROR_NOT_SUPPORTED */
    rates->gpu = 10 * ((long)device - 1) + 5;
    rates->memory = 99;
    return 0;
}
"""

PROGRAM = """
import json, time
from types import SimpleNamespace
import torch
from prometheus_client import REGISTRY
from worker import metrics

metrics.SAMPLE_SECONDS = 0.01
torch.cuda.mem_get_info = lambda device: (3 * 2**30, 8 * 2**30)
told = []
metrics._log = SimpleNamespace(warning=lambda event, **fields: told.append((event, fields)))
engine = SimpleNamespace(busy_rows=6)
with metrics.DeviceSampler(engine, "cuda:3", torch.device("cuda:0")):
    time.sleep(0.5)
names = ("rows_busy", "memory_bytes", "utilisation_ratio")
values = [REGISTRY.get_sample_value(f"edict_worker_{name}", {"device": "cuda:3"}) for name in names]
print(json.dumps({"values": values, "told": told}))
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a `libnvidia-ml.so.1` that knows ten GPUs."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "nvml.c").write_text(LIBRARY)
    target = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", target, folder / "nvml.c"], check=True)
    return folder


def sampled(driver: Path, **environment: str) -> Any:
    """What a worker of the fourth GPU of its machine tells after many looks."""
    mine = {"LD_LIBRARY_PATH": str(driver), "CUDA_VISIBLE_DEVICES": "3"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | mine | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_the_figures_of_a_gpu_are_those_of_the_one_that_the_process_sees(driver: Path):
    found = sampled(driver)

    assert found == {"values": [6, 5 * 2**30, 0.35], "told": []}


def test_a_gpu_that_tells_no_utilisation_is_complained_of_once_and_its_memory_is_told(driver: Path):
    found = sampled(driver, SLICED="1")

    assert found["values"] == [6, 5 * 2**30, None]
    [(event, fields)] = found["told"]
    assert event == "device.unread"
    assert fields == {"device": "cuda:3", "reason": "Not Supported"}
