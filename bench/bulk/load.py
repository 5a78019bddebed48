"""Workers that do nothing but claim and finish: how many jobs a second the control plane stands.

    python -m bench.bulk.load DATABASE_URL MODEL SECONDS

is one of them. It prints `ready`, begins when it is sent a line, and prints its jobs a second.
"""

import os
import subprocess
import sys
import time

from bench.bulk.queries import RESULT, SHARD
from jobs.database import open_database
from jobs.lanes import Lane
from jobs.store import JobStore

WORKERS = 16
SECONDS = 15.0
LEASE = 600.0


def ceiling(url: str, model: str) -> float:
    """Jobs a second through announce, claim and finish, with the load of `WORKERS` processes."""
    command = [sys.executable, "-m", "bench.bulk.load", url, model, str(SECONDS)]
    fleet = [
        subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(WORKERS)
    ]
    for process in fleet:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    # All at once: one that begins while others still load would have the machine to itself.
    for process in fleet:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return sum(float(process.communicate()[0]) for process in fleet)


def work(store: JobStore, model: str, seconds: float) -> float:
    """Be one worker; says how many jobs a second it finished."""
    done, name = 0, f"bench-{os.getpid()}"
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        due = store.take_due(SHARD, model=model, lane=Lane.BULK)
        for claim in store.claim([job.id for job in due], name, lease=LEASE):
            store.finish(claim, RESULT)
            done += 1
    return done / (time.perf_counter() - began)


def main() -> None:
    """Be ready, wait for the word, work, and tell."""
    url, model, seconds = sys.argv[1:]
    engine = open_database(url, pool_size=1)
    store = JobStore(engine)
    store.models_pending()
    print("ready", flush=True)
    sys.stdin.readline()
    print(work(store, model, float(seconds)))
    engine.dispose()


if __name__ == "__main__":
    main()
