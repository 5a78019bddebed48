"""Which devices a worker is confined to."""

import os
import stat
from pathlib import Path

import pytest

from jobs.errors import ConfigurationError
from worker.devices import find_devices


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver tool that reports two GPUs."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 0\necho 1\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


@pytest.fixture
def no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


def test_cpu_devices_share_the_cores_and_never_have_none(no_gpu: None):
    cores = os.sched_getaffinity(0)

    devices = find_devices(["cpu"] * (len(cores) + 1))

    assert {core for device in devices for core in device.cores} == cores
    assert all(device.cores for device in devices)
    assert len({device.name for device in devices}) == len(devices)
    for device in devices:
        assert device.environment["OMP_NUM_THREADS"] == str(len(device.cores))
        assert device.environment["CUDA_VISIBLE_DEVICES"] == ""


def test_a_gpu_process_sees_its_own_gpu_only(two_gpus: None):
    first, second = find_devices(["0", "1"])

    assert (first.name, second.name) == ("cuda:0", "cuda:1")
    assert [d.environment["CUDA_VISIBLE_DEVICES"] for d in (first, second)] == ["0", "1"]
    assert first.torch_name == second.torch_name == "cuda:0"


def test_all_means_every_gpu(two_gpus: None):
    assert [device.name for device in find_devices(["all"])] == ["cuda:0", "cuda:1"]


def test_all_means_one_cpu_device_where_there_is_no_gpu(no_gpu: None):
    [device] = find_devices(["all"])

    assert device.torch_name == "cpu"


@pytest.mark.parametrize("name", ["7", "gpu", "", "cuda:0"])
def test_a_device_that_is_not_there_is_refused_with_what_is(two_gpus: None, name: str):
    with pytest.raises(ConfigurationError, match=r"GPUs 0, 1.*'all'"):
        find_devices([name])
