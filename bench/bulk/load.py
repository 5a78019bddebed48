"""Workers that do nothing but claim and finish: how many jobs a second the control plane stands.

    python -m bench.bulk.load DATABASE_URL MODEL WORKERS SECONDS

is one process with so many workers, each a thread with a connection of its own.
"""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from bench.bulk.queries import RESULT, SHARD
from jobs.database import open_database
from jobs.lanes import Lane
from jobs.store import JobStore

WORKERS = 16
PROCESSES = 2
"""As many as there are cores to share with the database."""
SECONDS = 15.0
LEASE = 600.0


def ceiling(url: str, model: str) -> float:
    """Jobs a second through announce, claim and finish, with the load of `WORKERS` workers."""
    share = WORKERS // PROCESSES
    command = [sys.executable, "-m", "bench.bulk.load", url, model, str(share), str(SECONDS)]
    fleet = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)]
    return sum(float(process.communicate()[0]) for process in fleet)


def work(store: JobStore, model: str, name: str, seconds: float) -> int:
    """Be one worker; says how many jobs it finished."""
    done, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        due = store.take_due(SHARD, model=model, lane=Lane.BULK)
        for claim in store.claim([job.id for job in due], name, lease=LEASE):
            store.finish(claim, RESULT)
            done += 1
    return done


def main() -> None:
    """Print the jobs a second of this process."""
    url, model, workers, seconds = sys.argv[1:]
    engine = open_database(url, pool_size=int(workers))
    store = JobStore(engine)
    store.models_pending()
    began = time.perf_counter()
    with ThreadPoolExecutor(int(workers)) as pool:
        runs = [
            pool.submit(work, store, model, f"bench-{n}", float(seconds))
            for n in range(int(workers))
        ]
    took = time.perf_counter() - began
    print(sum(each.result() for each in runs) / took)
    engine.dispose()


if __name__ == "__main__":
    main()
