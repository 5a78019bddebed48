"""The engine without the pipeline: the same work on the same devices, all in memory.

One process for each device, confined as a worker's is, and in it as many images at once as a worker
has messages in hand. ``python -m bench.pipeline.bare`` is such a process: it says ``ready``, waits
for a line, works, and says how many seconds it took.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import torch

from bench.pipeline.work import BASE_PROMPT, Work, picture
from edict_engine.editor import Editor
from edict_engine.engine import Engine
from edict_engine.images import load_image
from edict_engine.model import load_model
from edict_engine.numerics import fastest_dtype
from edict_engine.parameters import SamplerParameters
from jobs.settings import Settings, parse_model
from worker.devices import Device, find_devices
from worker.noise import parameters
from worker.process import JOB_THREADS


def images_per_second(model: str, devices: Sequence[str], work: Work) -> float:
    """Share the images out among the devices; the slowest one's time counts."""
    shares = [work.images // len(devices)] * len(devices)
    for extra in range(work.images % len(devices)):
        shares[extra] += 1
    processes = [
        _start(model, device, Work(share, work.edits, work.steps), first=1_000 * at)
        for at, (device, share) in enumerate(zip(find_devices(devices), shares, strict=True))
    ]
    try:
        for process in processes:
            _line(process)
        begun = time.perf_counter()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            _line(process)
        return work.jobs / (time.perf_counter() - begun)
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _start(model: str, device: Device, work: Work, first: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "bench.pipeline.bare", model, json.dumps(asdict(work))]
    command += ["--first", str(first), "--torch-device", device.torch_name]
    command += ["--cores", ",".join(map(str, device.cores))]
    return subprocess.Popen(
        command,
        env={**os.environ, **device.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"an engine process ended with status {process.wait()}; see above")
    return line


class Bare:
    """An engine, and the work of one device."""

    def __init__(self, editor: Editor, work: Work, images_at_once: int) -> None:
        self._editor = editor
        self._work = work
        self._parameters: SamplerParameters = parameters(work.sampler)
        self._images = ThreadPoolExecutor(images_at_once)
        self._edits = ThreadPoolExecutor(JOB_THREADS)

    def run(self, pictures: Sequence[bytes]) -> None:
        """Invert and edit them all."""
        list(self._images.map(self._image, pictures))

    def _image(self, data: bytes) -> None:
        model = self._editor.model
        image = load_image(data, size=model.default_size, multiple=model.pixel_factor)
        inversion = self._editor.invert(image, BASE_PROMPT, self._parameters)
        edits = [
            self._edits.submit(self._editor.edit, inversion, prompt)
            for prompt in self._work.prompts
        ]
        for edit in edits:
            edit.result()


def main() -> None:
    """Work for one device."""
    parser = argparse.ArgumentParser(prog="python -m bench.pipeline.bare", description=__doc__)
    parser.add_argument("model")
    parser.add_argument("work", type=json.loads)
    parser.add_argument("--first", type=int, required=True, help="number of the first picture")
    parser.add_argument("--torch-device", required=True)
    parser.add_argument("--cores", default="")
    options = parser.parse_args()
    if options.cores:
        os.sched_setaffinity(0, {int(core) for core in options.cores.split(",")})
    if options.torch_device == "cpu":
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    settings, work = Settings(), Work(**options.work)
    device = torch.device(options.torch_device)
    auto = settings.dtype == "auto"
    dtype = fastest_dtype(device) if auto else getattr(torch, settings.dtype)
    name, revision = parse_model(options.model)
    model = load_model(name, revision=revision, device=device, dtype=dtype)
    with Engine(model, rungs=settings.rungs) as engine:
        bare = Bare(Editor(model, engine), work, settings.worker_shards)
        # The first call of everything is outside the clock.
        Bare(Editor(model, engine), Work(1, 1, 2), 1).run([picture(0)])
        print("ready", flush=True)
        sys.stdin.readline()
        begun = time.perf_counter()
        bare.run([picture(options.first + at) for at in range(work.images)])
        print(time.perf_counter() - begun, flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
