"""What the HTTP API costs, beside FastAPI that inserts a row and does nothing else.

    python -m bench.api [--jobs 2000] [--clients 32] [--listeners 500] [--json]

* *submissions*: ``POST /v1/jobs``, each with another prompt, from many clients at once; against the
  yardstick's insertions into the same kind of database (SQLite, each in a transaction of its own),
  in the same run. Ours also reads the image in the bucket and looks at it, keeps the audit, and
  announces the job in Redis;
* *own code*: the share of the server's time, waiting left out, that was spent in our packages and
  not in the libraries that they call, by samples of its threads in a run of its own;
* *listeners*: so many clients follow one batch; seconds from the cancellation of its jobs to the
  moment when the last of them was told the end.
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx

from jobs.settings import load_settings
from producer.client import Client
from producer.embedded.stack import EmbeddedStack

START_SECONDS = 60.0
_COMMANDS = {
    "api": ["producer.cli", "serve", "--port"],
    "sampled": ["bench.api.sampled"],
    "yardstick": ["uvicorn", "bench.api.raw:make", "--factory", "--log-level", "error", "--port"],
}


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(name: str, environment: dict[str, str], *arguments: str) -> Iterator[str]:
    """A server in a process of its own; its URL."""
    port = free_port()
    command = [sys.executable, "-m", *_COMMANDS[name], str(port), *arguments]
    # Its log has a line for each submission.
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, f"{name} ended"
            assert time.monotonic() < deadline, f"{name} does not listen"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


async def submissions(
    url: str, source: str, jobs: int, clients: int, prompt: str = ""
) -> dict[str, float]:
    """Submit from many clients at once; milliseconds and submissions a second."""
    numbers = iter(range(jobs))
    took: list[float] = []

    async def client() -> None:
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=120) as http:
            for number in numbers:
                wish = {"source": source, "base_prompt": "a", "edit_prompt": f"{prompt}{number}"}
                begun = time.perf_counter()
                answer = await http.post("/v1/jobs", json=wish)
                took.append(time.perf_counter() - begun)
                assert answer.status_code == 201, answer.text

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    seconds = time.perf_counter() - begun
    cuts = quantiles(took, n=100)
    return {"a_second": jobs / seconds, "p50_ms": 1_000 * cuts[49], "p99_ms": 1_000 * cuts[98]}


async def listeners(url: str, source: str, count: int) -> dict[str, float]:
    """Follow one batch from many clients; whether all were told its end, and how late."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=120, limits=limits) as http:
        rows = [{"source": source, "edit_prompt": "heard"}]
        await http.post("/v1/batches", json={"name": "heard", "rows": rows, "force": True})
        there, told = asyncio.Semaphore(0), 0

        async def listen() -> None:
            nonlocal told
            async with http.stream("GET", "/v1/batches/heard/events") as answer:
                async for line in answer.aiter_lines():
                    if line == "event: progress":
                        there.release()
                    told += line == "event: end"

        tasks = [asyncio.create_task(listen()) for _ in range(count)]
        begun = time.perf_counter()
        for _ in tasks:
            await there.acquire()
        connected = time.perf_counter()
        await http.delete("/v1/batches/heard")
        await asyncio.gather(*tasks)
        over = time.perf_counter()
    assert told == count
    return {"count": count, "connected_s": connected - begun, "told_s": over - connected}


def measure(folder: Path, jobs: int, clients: int, count: int) -> dict[str, Any]:
    """Both servers, one after the other, and the listeners."""
    with EmbeddedStack(folder, [], ["demo"]) as stack:
        stack.start_services()
        stack.migrate()
        environment = {**os.environ, **stack.environment()}
        os.environ |= stack.environment()
        with Client(load_settings()) as client:
            source = client.sources.upload(_picture(), "bench").uri
        raw = environment | {"EDICT_DATABASE_URL": f"sqlite:///{folder / 'raw.db'}"}
        with server("yardstick", raw) as url:
            yardstick = asyncio.run(submissions(url, source, jobs, clients))
        with server("api", environment) as url:
            ours = asyncio.run(submissions(url, source, jobs, clients))
            heard = asyncio.run(listeners(url, source, count))
        shares = folder / "shares.json"
        with server("sampled", environment, str(shares)) as url:
            # Each job anew: what was submitted before would be answered sooner.
            asyncio.run(submissions(url, source, jobs, clients, "sampled "))
    where = json.loads(shares.read_text())
    return {"api": ours, "yardstick": yardstick, "listeners": heard, "where": where}


def _picture() -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 60).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2_000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--listeners", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), given.jobs, given.clients, given.listeners)
    if given.json:
        print(json.dumps(found | {"own_share": found["where"].get("own", 0.0)}))
        return
    for name in ("yardstick", "api"):
        figures = found[name]
        print(
            f"{name:<10} {figures['a_second']:8.1f} submissions/s   "
            f"p50 {figures['p50_ms']:7.1f} ms   p99 {figures['p99_ms']:7.1f} ms"
        )
    heard = found["listeners"]
    print(
        f"listeners  {heard['count']} connected in {heard['connected_s']:.1f} s, "
        f"all told the end after {heard['told_s']:.1f} s"
    )
    shown = list(found["where"].items())[:8]
    print("time        " + ", ".join(f"{name} {share:.0%}" for name, share in shown))


if __name__ == "__main__":
    main()
