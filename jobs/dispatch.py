"""From rows to messages: the outbox, and the reconciler that makes up for lost ones.

`dispatch` sends what is due; producers call it after they commit, the control process all the
time. `reconcile` finds what fell between the chairs: leases of dead workers, and queued jobs whose
message was lost. A queue that still holds messages is left alone for an hour, so that a long queue
is not announced over and over.
"""

from collections import defaultdict
from collections.abc import Iterable

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from jobs.celery_app import VISIBILITY_TIMEOUT_SECONDS
from jobs.errors import ServiceUnavailable
from jobs.messages import MAX_SHARD_JOBS, RUN_SHARD, Shard, queue_name
from jobs.records import DueJob
from jobs.store import JobStore

DISPATCH_CHUNK = 512

_log = structlog.get_logger()


def dispatch(store: JobStore, app: Celery) -> int:
    """Send a message for every job that is due; says how many jobs.

    Raises:
        ServiceUnavailable: Redis does not take messages. The jobs are pending again: nothing is
            lost, and the next call sends them.
    """
    sent = 0
    while due := store.take_due(DISPATCH_CHUNK):
        unsent = shards(due)
        try:
            while unsent:
                _send(app, unsent[0])
                sent += len(unsent.pop(0))
        except BaseException as error:
            # Ctrl-C too: nothing may stay queued that no message speaks of.
            store.unqueue([job.id for shard in unsent for job in shard])
            if isinstance(error, OperationalError):
                raise ServiceUnavailable(f"Redis takes no messages: {error}") from None
            raise
    return sent


def shards(due: Iterable[DueJob]) -> list[list[DueJob]]:
    """Put jobs that share a model and an image together, at most `MAX_SHARD_JOBS` in one.

    They need not be neighbours: a manifest may go through all images once for each prompt. One
    that was lost with its worker travels alone, as it runs.
    """
    together: defaultdict[tuple[object, ...], list[DueJob]] = defaultdict(list)
    for job in due:
        alone = job.id if job.losses else None
        together[job.model, job.inversion_digest, alone].append(job)
    return [
        jobs[start : start + MAX_SHARD_JOBS]
        for jobs in together.values()
        for start in range(0, len(jobs), MAX_SHARD_JOBS)
    ]


def reconcile(store: JobStore, app: Celery, *, redeliver_after: float) -> int:
    """Bring back what dead workers and lost messages left behind; says how many jobs.

    Raises:
        ServiceUnavailable: Redis does not answer.
    """
    expired = store.expire_leases()
    if expired:
        _log.warning("leases.expired", jobs=expired)
    lost = sum(
        store.requeue_unclaimed(model, older_than=_patience(app, model, redeliver_after))
        for model in store.models_queued()
    )
    if lost:
        _log.warning("messages.lost", jobs=lost)
    return expired + lost


def _patience(app: Celery, model: str, redeliver_after: float) -> float:
    """How long a job may stay queued before its message counts as lost.

    While messages wait, a job's own may be one of them: only after a long time is it sent again,
    for the queue that never runs dry. Should it be there all the same, two do no harm.
    """
    empty = queue_length(app, queue_name(model)) == 0
    return redeliver_after if empty else VISIBILITY_TIMEOUT_SECONDS


def queue_length(app: Celery, queue: str) -> int:
    """Messages that wait in a queue.

    Raises:
        ServiceUnavailable: Redis does not answer.
    """
    with app.connection_for_read() as connection:
        # The client's own errors are those of redis-py, not kombu's.
        away = (OperationalError, *connection.connection_errors, *connection.channel_errors)
        try:
            return int(connection.default_channel.client.llen(queue))
        except away as error:
            raise ServiceUnavailable(f"Redis does not answer: {error}") from None


def _send(app: Celery, shard: list[DueJob]) -> None:
    message = Shard(job_ids=tuple(job.id for job in shard))
    app.send_task(
        RUN_SHARD,
        args=[message.model_dump(mode="json")],
        queue=queue_name(shard[0].model),
        retry=False,
        ignore_result=True,
    )
