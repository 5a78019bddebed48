"""Why a job that has not started waits, in words."""

from collections.abc import Sequence
from datetime import datetime

from jobs.records import Job, Worker
from jobs.states import State
from producer.text import seconds_text


def why_waiting(job: Job, alive: Sequence[Worker], now: datetime) -> str | None:
    """What a job waits for, and what to do about it; None if it runs or has ended.

    `alive` are the workers that gave a sign of life lately.
    """
    if job.state not in (State.PENDING, State.QUEUED):
        return None
    if job.paused:
        return "a batch of it is paused; let it go on with `edict resume BATCH`"
    if not any(job.model in worker.labels for worker in alive):
        return _nobody_serves(job.model, alive)
    if job.due_at > now:
        after = f", after {job.error_code}" if job.error_code else ""
        return f"it is tried again in {seconds_text((job.due_at - now).total_seconds())}{after}"
    if job.state is State.QUEUED:
        return "workers are busy with other jobs"
    return "it is not announced yet: more urgent or older jobs go first"


def _nobody_serves(model: str, alive: Sequence[Worker]) -> str:
    start = f"start one with `edict worker --model {model}`"
    if not alive:
        return f"no worker is alive; {start}"
    served = ", ".join(sorted({worker.labels[1] for worker in alive}))
    return f"no live worker serves {model} (but {served}); {start}"
