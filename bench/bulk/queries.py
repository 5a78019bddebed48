"""The queries that are asked all day, on the tables as the manifest left them."""

import time
from collections.abc import Callable
from statistics import quantiles

from jobs.results import Result
from jobs.store import JobStore

TIMES = 40
_RESULT = Result(outputs={}, model_revision="bench", fingerprint="bench")


def measure_queries(store: JobStore) -> dict[str, float]:
    """The 95th percentile of each, in milliseconds."""
    batch = store.batch("bench")
    queued: list[object] = []

    def take() -> None:
        queued.extend(store.take_due(8))

    def claim_and_finish() -> None:
        job = queued.pop()
        [claim] = store.claim([job.id], "bench", lease=60)  # type: ignore[attr-defined]
        store.finish(claim, _RESULT)

    return {
        "watch": p95_ms(lambda: store.counts(batch.id)),
        "batches": p95_ms(lambda: store.batches(20)),
        "page": p95_ms(lambda: store.page_of(batch.id, None, 100)),
        "take": p95_ms(take),
        "claim and finish": p95_ms(claim_and_finish),
    }


def p95_ms(ask: Callable[[], object]) -> float:
    """The 95th percentile of how long it takes."""
    took = []
    for _ in range(TIMES):
        began = time.perf_counter()
        ask()
        took.append(time.perf_counter() - began)
    return quantiles(took, n=20)[-1] * 1_000
