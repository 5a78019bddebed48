"""Showing an edit while it runs, to whoever looks at it, and saying how far it is.

Invariant: nothing here can hold up or fail a job. The device thread hands over references to what
it has anyway, and the thread that waits for it a number; all else, the network above all, happens
on one thread of our own, and what goes wrong there is logged and forgotten.
"""

import io
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Generic, Self, TypeVar
from uuid import UUID

import structlog
from PIL import Image

from edict_engine.editor import Editor
from edict_engine.errand import OnProgress
from edict_engine.parameters import SamplerParameters
from edict_engine.preview import Glance, Look
from edict_engine.schedule import kept_steps
from jobs.lanes import INTERACTIVE_PRIORITY
from jobs.previews import Previews, Stage
from jobs.records import Claim

T = TypeVar("T")

EVERY_SECONDS = 1.0
"""Pages look once a second."""
MAX_PIXELS = 256
"""Longer side of a preview, enlarged from one pixel a cell."""

_log = structlog.get_logger()


class Previewer:
    """Makes previews of interactive edits, one after the other. Use it as a context manager."""

    def __init__(self, previews: Previews, editor: Editor, *, every: float = EVERY_SECONDS) -> None:
        self._previews = previews
        self._editor = editor
        self._every = every
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="preview")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What is left undone goes away in Redis by itself.
        self._pool.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def showing(self, claim: Claim, parameters: SamplerParameters) -> Iterator[Look | None]:
        """What the engine is to show the edit's steps to; None for bulk work."""
        if claim.priority < INTERACTIVE_PRIORITY:
            yield None
            return
        show = _Show[Glance](
            lambda glance: self._submit(lambda: self._make(claim.job_id, glance, parameters)),
            self._every,
        )
        try:
            yield show.look
        finally:
            if show.has_shown:
                # Behind what was submitted before: our thread takes one after the other.
                self._submit(lambda: self._previews.delete(claim.job_id))

    def telling(self, claims: Sequence[Claim], doing: str) -> OnProgress:
        """What is to be told how far such work is for these jobs; does nothing for bulk work."""
        watched = [claim for claim in claims if claim.priority >= INTERACTIVE_PRIORITY]
        if not watched:
            return lambda _done, _total: None
        sampler = watched[0].spec.sampler
        steps = kept_steps(sampler.steps, sampler.strength)
        show = _Show[Stage](
            lambda stage: self._submit(lambda: self._tell(watched, stage)), self._every
        )

        def progress(done: int, total: int) -> None:
            if total > 0:
                show.look(Stage(doing, min(steps, done * steps // total + 1), steps))

        return progress

    def _tell(self, claims: Sequence[Claim], stage: Stage) -> None:
        for claim in claims:
            if self._previews.is_asked(claim.job_id):
                self._previews.tell(claim.job_id, stage)

    def _submit(self, work: Callable[[], None]) -> "Future[None] | None":
        """Let our thread do it; None once that was closed."""
        try:
            return self._pool.submit(_safely, work)
        except RuntimeError:
            return None

    def _make(self, job_id: UUID, glance: Glance, parameters: SamplerParameters) -> None:
        if self._previews.is_asked(job_id):
            self._previews.put(job_id, _encoded(self._editor.preview(glance, parameters)))


class _Show(Generic[T]):
    """Hands on one step now and then, and none while the last one is still in the making."""

    def __init__(self, hand_on: "Callable[[T], Future[None] | None]", every: float) -> None:
        self._hand_on = hand_on
        self._every = every
        self._due = 0.0
        self._last: Future[None] | None = None

    @property
    def has_shown(self) -> bool:
        """Whether anything was handed on."""
        return self._last is not None

    def look(self, step: T) -> None:
        """Called at every step, by the device thread or by the one that waits for it."""
        now = time.monotonic()
        if now < self._due or (self._last is not None and not self._last.done()):
            return
        self._due = now + self._every
        self._last = self._hand_on(step) or self._last


def _safely(work: Callable[[], None]) -> None:
    try:
        work()
    except Exception as error:
        _log.warning("preview.failed", reason=str(error))


def _encoded(image: Image.Image) -> bytes:
    """A WebP large enough to see something; cells become smooth patches."""
    scale = max(1, MAX_PIXELS // max(image.size))
    large = image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    large.save(buffer, "WEBP", quality=70)
    return buffer.getvalue()
