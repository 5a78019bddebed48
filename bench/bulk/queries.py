"""The queries that are asked all day, on the tables as the manifest left them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import quantiles
from typing import Any

from sqlalchemy import Engine, event

from jobs.lanes import Lane
from jobs.records import Claim
from jobs.results import Result
from jobs.store import JobStore

TIMES = 40
SHARD = 8
RESULT = Result(outputs={}, model_revision="bench", fingerprint="bench")


def questions(store: JobStore, name: str) -> dict[str, Callable[[], object]]:
    """What `edict watch`, `edict batches`, the control process and workers ask of a batch."""
    batch = store.batch(name)
    [first] = store.page_of(batch.id, None, 1)
    due: list[Any] = []
    claims: list[Claim] = []

    def take() -> None:
        due.append(store.take_due(SHARD, model=first.model, lane=Lane.BULK))

    def claim() -> None:
        claims.extend(store.claim([job.id for job in due.pop()], "bench", lease=600))

    def watch() -> None:
        store.batch(name)
        store.counts(batch.id)
        store.failures_of(batch.id)

    return {
        "watch": watch,
        "batches": lambda: store.batches(20),
        "page": lambda: store.page_of(batch.id, None, 100),
        "announce": take,
        "claim": claim,
        "finish": lambda: store.finish(claims.pop(), RESULT),
    }


def measure_queries(store: JobStore, name: str = "bench") -> dict[str, float]:
    """The 95th percentile of each, in milliseconds."""
    return {what: p95_ms(ask) for what, ask in questions(store, name).items()}


def p95_ms(ask: Callable[[], object]) -> float:
    """The 95th percentile of how long it takes."""
    took = []
    for _ in range(TIMES):
        began = time.perf_counter()
        ask()
        took.append(time.perf_counter() - began)
    return quantiles(took, n=20)[-1] * 1_000


def scans(engine: Engine, store: JobStore, name: str = "bench") -> dict[str, list[str]]:
    """How PostgreSQL finds the rows of each question: `Index Scan jobs (ix_…)`, by `EXPLAIN`."""
    found = {}
    for what, ask in questions(store, name).items():
        with _asked(engine) as statements:
            ask()
        lines = {line for each in statements for line in _explained(engine, *each)}
        found[what] = sorted(lines)
    return found


@contextmanager
def _asked(engine: Engine) -> Iterator[list[tuple[str, Any]]]:
    """The statements, with their parameters, that are sent meanwhile."""
    statements: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)


def _explained(engine: Engine, statement: str, parameters: Any) -> Iterator[str]:
    with engine.connect() as connection:
        explain = f"EXPLAIN (FORMAT JSON) {statement}"
        [[plans]] = connection.exec_driver_sql(explain, parameters).all()
    yield from _scans_of(plans[0]["Plan"])


def _scans_of(plan: dict[str, Any]) -> Iterator[str]:
    # The parts of a bitmap scan name the index and the table each by themselves.
    if "Scan" in plan["Node Type"] and ("Relation Name" in plan or "Index Name" in plan):
        index = f" ({plan['Index Name']})" if "Index Name" in plan else ""
        yield f"{plan['Node Type']} {plan.get('Relation Name', '')}{index}".replace("  ", " ")
    for part in plan.get("Plans", ()):
        yield from _scans_of(part)
