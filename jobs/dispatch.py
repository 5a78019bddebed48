"""From rows to messages: the outbox, and the reconciler that makes up for lost ones.

`dispatch` sends what is due; producers call it for their own jobs after they commit, the control
process all the time. Interactive jobs are announced at once. Of a model's bulk jobs only a bounded
window is, refilled as workers claim: Redis stays small, and what is urgent and submitted late has
no long queue before it.

`reconcile` finds what fell between the chairs: pauses that were broken off, and queued jobs whose
message was lost. A queue is first in, first out, and a message bears the moment that is on its
jobs' rows: jobs queued before the oldest message that still waits have none.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from jobs.errors import ServiceUnavailable
from jobs.lanes import Lane
from jobs.messages import MAX_SHARD_JOBS, RUN_SHARD, Shard, queue_name
from jobs.records import DueJob
from jobs.store import JobStore
from jobs.store.base import IDS_CHUNK
from jobs.tracing import HEADER, span, traceparent

DISPATCH_CHUNK = 512
WINDOW = 4_096
"""Bulk jobs of a model that are announced at once, at most."""

QUEUED_AT = "edict_queued_at"
"""Header of a message: the moment that its jobs' rows bear, in ISO 8601."""

_UNKNOWN = datetime.fromtimestamp(0, UTC)

_log = structlog.get_logger()


def dispatch(
    store: JobStore,
    app: Celery,
    *,
    window: int = WINDOW,
    among: Sequence[UUID] | None = None,
    say: Callable[[Sequence[DueJob]], None] = lambda _: None,
) -> int:
    """Send messages for the jobs that are due; says for how many jobs.

    All interactive ones, and of each model's bulk jobs as many as `window` has room for. With
    `among`, only (the first `window`) of these: the rest is the control process's. `say` is told of
    each message's jobs.

    Raises:
        ServiceUnavailable: Redis does not take messages. The jobs are pending again: nothing is
            lost, and the next call sends them.
    """
    own = None if among is None else among[: min(window, IDS_CHUNK)]
    models, sent = store.models_pending(), 0
    for model in models:
        while due := store.take_due(DISPATCH_CHUNK, model=model, lane=Lane.INTERACTIVE, among=own):
            sent += _send_all(store, app, due, say)
    for model in models:
        room = window - store.queued(model, Lane.BULK)
        while room > 0 and (
            due := store.take_due(min(room, DISPATCH_CHUNK), model=model, lane=Lane.BULK, among=own)
        ):
            room -= len(due)
            sent += _send_all(store, app, due, say)
    return sent


def _send_all(
    store: JobStore,
    app: Celery,
    due: Sequence[DueJob],
    say: Callable[[Sequence[DueJob]], None],
) -> int:
    unsent = shards(due)
    try:
        while unsent:
            _send(app, unsent[0])
            say(unsent.pop(0))
    except BaseException as error:
        # Ctrl-C too: nothing may stay queued that no message speaks of.
        store.unqueue([job.id for shard in unsent for job in shard])
        if isinstance(error, OperationalError):
            raise ServiceUnavailable(f"Redis takes no messages: {error}") from None
        raise
    return len(due)


def shards(due: Iterable[DueJob]) -> list[list[DueJob]]:
    """Put jobs of a queue that share an image together, at most `MAX_SHARD_JOBS` in one.

    They need not be neighbours: a manifest may go through all images once for each prompt. One
    that was lost with its worker travels alone, as it runs.
    """
    together: defaultdict[tuple[object, ...], list[DueJob]] = defaultdict(list)
    for job in due:
        alone = job.id if job.losses else None
        together[job.model, job.lane, job.inversion_digest, alone].append(job)
    return [
        jobs[start : start + MAX_SHARD_JOBS]
        for jobs in together.values()
        for start in range(0, len(jobs), MAX_SHARD_JOBS)
    ]


def reconcile(store: JobStore, app: Celery, *, redeliver_after: float) -> int:
    """Bring back what lost messages left behind; says how many jobs.

    A message counts as lost when its queue is empty, or has come to messages that were sent
    `redeliver_after` seconds later: so long a worker may need from the message to the claim.

    Raises:
        ServiceUnavailable: Redis does not answer.
    """
    if settled := store.settle_batches():
        _log.info("batches.settled", batches=settled)
    lost = sum(
        store.requeue_unclaimed(
            model,
            older_than=redeliver_after,
            lane=lane,
            waiting_since=oldest_message(app, queue_name(model, lane)),
        )
        for model in store.models_queued()
        for lane in Lane
    )
    if lost:
        _log.warning("messages.lost", jobs=lost)
    return lost


def oldest_message(app: Celery, queue: str) -> datetime | None:
    """The moment that the message bears which waits longest in a queue; None if it is empty.

    A message without one tells nothing of those behind it: it counts as older than everything.

    Raises:
        ServiceUnavailable: Redis does not answer.
    """
    message = ask_redis(app, lambda client: client.lindex(queue, -1))
    return None if message is None else _moment_of(message)


def _moment_of(message: str | bytes) -> datetime:
    """What a message bears; it may be forged, and nothing in it may keep control from its work."""
    try:
        moment = datetime.fromisoformat(json.loads(message)["headers"][QUEUED_AT])
        # Of a moment without a time zone, any will do: it is none of ours.
        return max(moment.astimezone(UTC), _UNKNOWN)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return _UNKNOWN


def queue_length(app: Celery, queue: str) -> int:
    """Messages that wait in a queue.

    Raises:
        ServiceUnavailable: Redis does not answer.
    """
    return int(ask_redis(app, lambda client: client.llen(queue)))


def ask_redis(app: Celery, question: Any) -> Any:
    """What Redis's own client answers to `question`.

    Raises:
        ServiceUnavailable: Redis does not answer.
    """
    with app.connection_for_read() as connection:
        # The client's own errors are those of redis-py, not kombu's.
        away = (OperationalError, *connection.connection_errors, *connection.channel_errors)
        try:
            return question(connection.default_channel.client)
        except away as error:
            raise ServiceUnavailable(f"Redis does not answer: {error}") from None


def _send(app: Celery, shard: list[DueJob]) -> None:
    message = Shard(job_ids=tuple(job.id for job in shard))
    first = shard[0]
    headers = {QUEUED_AT: first.queued_at.isoformat()} if first.queued_at else {}
    submitted = [job.traceparent for job in shard]
    with span("announce", kind="producer", parent=submitted[0], links=submitted, jobs=len(shard)):
        if trace := traceparent():
            headers[HEADER] = trace
        app.send_task(
            RUN_SHARD,
            args=[message.model_dump(mode="json")],
            headers=headers,
            queue=queue_name(first.model, first.lane),
            retry=False,
            ignore_result=True,
        )
