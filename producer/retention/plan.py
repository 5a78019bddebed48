"""What pruning would do now, found by looking only."""

from jobs.retention import Plan, What
from jobs.store import JobStore

CHUNK = 500


def plan(store: JobStore) -> Plan:
    """Count what a run would take off rows and delete, shared inversions once.

    Sources are not counted: whether another job names one is only looked up when it goes.
    """
    made = Plan()
    freed: dict[str, int] = {}
    shared: set[str] = set()
    for jobs in store.due_jobs(chunk=CHUNK):
        kept = store.kept_inversions(jobs)
        for job in jobs:
            made.rows += job.due(What.ROWS)
            for role, (key, size) in job.outputs.items():
                if role != "latents":
                    if job.due(What.RESULTS) or job.due(What.ROWS):
                        made.results.add(size)
                elif job.due(What.LATENTS) or job.due(What.ROWS):
                    if key in kept:
                        shared.add(key)
                    else:
                        freed[key] = size
    for size in freed.values():
        made.latents.add(size)
    made.shared_latents = len(shared)
    return made
