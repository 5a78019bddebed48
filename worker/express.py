"""The interactive lane's own takers: they never wait for a thread that bulk work holds.

Celery's consumer hands its task threads to bulk messages, for minutes each. Interactive messages
come in here, over a connection of their own, and are run by other threads; the engine gives them
the device's next turn. A message is acknowledged when it is taken: it is only a hint, and should
this process die, the lease (or, before the claim, the reconciler) brings the job back.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import structlog
from celery import Celery
from kombu.message import Message
from kombu.mixins import ConsumerMixin

from jobs.messages import Shard
from jobs.tracing import HEADER, span

STOP_SECONDS = 5.0
LOOK_SECONDS = 0.2
PAUSE_SECONDS = 1.0
"""After an error that nobody foresaw."""

_log = structlog.get_logger()


class Express(ConsumerMixin):
    """Takes the messages of some queues, and calls `run` with their jobs' ids, `slots` at once."""

    def __init__(
        self,
        app: Celery,
        queues: Sequence[str],
        run: Callable[[Sequence[UUID]], None],
        *,
        slots: int,
    ) -> None:
        self.connection = app.connection_for_read()
        self._queues = [app.amqp.queues[name] for name in queues]
        self._run_shard = run
        self._slots = threading.Semaphore(slots)
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="express")
        self._stop = threading.Event()
        # A daemon: it may be waiting for a Redis that is away when the process is to end.
        self._thread = threading.Thread(target=self._take, name="express", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take nothing more, and wait for what runs."""
        self.stop_taking()
        self._thread.join(STOP_SECONDS)
        self._pool.shutdown()

    def stop_taking(self) -> None:
        """Take nothing more; what runs goes on. Only flags are set: a signal handler may call."""
        self._stop.set()
        self.should_stop = True  # kombu looks at it between two messages

    def get_consumers(self, consumer: Any, channel: Any) -> list[Any]:  # noqa: ARG002
        """Called by kombu at every connection."""
        return [
            consumer(queues=self._queues, accept=["json"], on_message=self._taken, prefetch_count=1)
        ]

    def on_iteration(self) -> None:
        """Take a message only when a thread is free to run it: another worker may have one."""
        while not self._stop.is_set():
            if self._slots.acquire(timeout=LOOK_SECONDS):
                self._slots.release()  # this thread alone takes
                return

    def on_connection_error(self, error: Exception, interval: float) -> None:
        """Called by kombu before it waits."""
        _log.warning("express.waiting", reason=str(error), retry_in=interval)

    def _take(self) -> None:
        while not self._stop.is_set():
            try:
                self.run()  # type: ignore[no-untyped-call]
            except Exception:
                # Without this thread nobody would take interactive jobs any more.
                _log.exception("express.failed")
                self._stop.wait(PAUSE_SECONDS)

    def _taken(self, message: Message) -> None:
        message.ack()  # type: ignore[no-untyped-call]
        try:
            [arguments, *_] = message.payload
            job_ids = Shard.parse(arguments[0]).job_ids
            trace = message.headers.get(HEADER)
        except Exception as error:
            _log.warning("message.refused", reason=str(error))
            return
        self._slots.acquire()
        self._pool.submit(self._run_one, job_ids, trace)

    def _run_one(self, job_ids: Sequence[UUID], trace: object) -> None:
        try:
            with span("shard", kind="consumer", parent=trace, jobs=len(job_ids)):
                self._run_shard(job_ids)
        except Exception:
            # The database is away, say: the rows are still queued, and are announced again.
            _log.exception("shard.failed")
        finally:
            self._slots.release()
