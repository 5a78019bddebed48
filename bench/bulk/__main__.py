"""What a manifest of many rows costs, and what the tables cost once it is in.

    python -m bench.bulk --rows 1000000 [--database postgresql|sqlite] [--json]

A manifest of ROWS edits, eight of each image, goes through ``edict bulk`` as a user's would: read,
checked whole, submitted; then the same again. Beside it, in the same run on the same server: COPY
of the very same rows into an empty copy of the table (PostgreSQL), one ``apply_async`` for each of
a few thousand jobs, the queries that people and workers ask all day, and how many jobs a second
sixteen workers get through claim and finish. Smaller tables (`--growth`) show what their size does.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine

from bench.bulk.load import ceiling
from bench.bulk.queries import measure_queries, scans
from jobs.celery_app import make_app
from jobs.database import open_database
from jobs.keys import sha256
from jobs.messages import RUN_SHARD, queue_name
from jobs.settings import Settings
from jobs.store import JobStore
from migrations import upgrade
from producer.embedded.valkey import Valkey

EDITS = 8
MODEL = "demo"
SENT = 2_000
"""Jobs that are sent one by one; a million would tell no more."""
STYLES = ("a sketch", "at night", "in winter", "in oil", "in fog", "as a toy", "in clay", "in ink")


@dataclass(frozen=True)
class Figures:
    """All that one run measured."""

    database: str
    rows: int
    rows_per_second: float
    client_cpu_seconds: float
    peak_rss_mb: float
    resubmit_ratio: float
    copy_ratio: float | None
    apply_async_ratio: float
    query_p95_ms: dict[str, float]
    ceiling_jobs_per_second: float
    """Through announce, claim and finish."""
    database_bytes_per_job: float
    growth: dict[str, dict[str, float]]
    """By rows: the queries' times and the ceiling."""
    scans: dict[str, list[str]]
    """How each query finds its rows, by PostgreSQL's EXPLAIN."""


def write_manifest(path: Path, rows: int) -> None:
    """`rows` edits, eight of each image, of images that are taken at their word."""
    with path.open("w") as file:
        for image in range(rows // EDITS):
            caption = f"a photo of thing number {image} on a wooden table"
            row = {
                "image": f"s3://bench/{image:08}.jpg",
                "sha256": sha256(str(image).encode()),
                "base_prompt": caption,
                "edits": [f"{caption}, {style}" for style in STYLES],
            }
            file.write(json.dumps(row) + "\n")


@dataclass(frozen=True)
class Run:
    """One run of `edict bulk`."""

    seconds: float
    cpu_seconds: float
    """Of the submitting process alone, the database's not counted."""
    peak_mb: float
    report: dict[str, Any]


def bulk(manifest: Path, environment: dict[str, str]) -> Run:
    """Run `edict bulk` as a user does."""
    command = [sys.executable, "-m", "producer.cli", "bulk", str(manifest), "--name", "bench"]
    began = time.perf_counter()
    child = subprocess.Popen(
        [*command, "--json"], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    printed = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, printed
    took = time.perf_counter() - began
    cpu = usage.ru_utime + usage.ru_stime
    return Run(took, cpu, usage.ru_maxrss / 1_000, json.loads(printed))


def bare_copy(url: str, empty: str) -> float:
    """Seconds to COPY all jobs of one database into the table of another, which is empty."""
    with (
        tempfile.TemporaryFile() as spool,
        psycopg.connect(_libpq(url)) as full,
        psycopg.connect(_libpq(empty)) as target,
    ):
        with full.cursor().copy("COPY jobs TO STDOUT") as out:
            for block in out:
                spool.write(block)
        spool.seek(0)
        began = time.perf_counter()
        with target.cursor().copy("COPY jobs FROM STDIN") as into:
            while block := spool.read(2**20):
                into.write(block)
        target.commit()
        return time.perf_counter() - began


def one_by_one(redis_url: str, store: JobStore) -> float:
    """Seconds a job, sent as the jobs of most Celery projects are: whole, and one at a time."""
    app = make_app(Settings(redis_url=redis_url))

    @app.task(name=RUN_SHARD)  # type: ignore[untyped-decorator]
    def run_job(spec: dict[str, Any]) -> None:
        """Never runs here."""

    batch = store.batch("bench")
    [job] = store.page_of(batch.id, None, 1)
    spec = job.spec.model_dump(mode="json")
    began = time.perf_counter()
    for _ in range(SENT):
        run_job.apply_async(args=[spec], queue=queue_name("bench"), ignore_result=True)
    took = time.perf_counter() - began
    app.close()
    return took / SENT


def loaded(url: str, rows: int, folder: Path, redis_url: str) -> tuple[Run, Run]:
    """Submit a manifest of so many rows, twice."""
    manifest = folder / f"manifest-{rows}.jsonl"
    if not manifest.exists():
        write_manifest(manifest, rows)
    environment = {
        **os.environ,
        "EDICT_DATABASE_URL": url,
        "EDICT_REDIS_URL": redis_url,
        "EDICT_S3_ENDPOINT_URL": "http://127.0.0.1:1",
        "EDICT_S3_BUCKET": "bench",
    }
    first = bulk(manifest, environment)
    assert first.report["created"] == rows // EDITS * EDITS, first
    again = bulk(manifest, environment)
    assert (again.report["created"], again.report["passed_over"]) == (0, rows // EDITS), again
    return first, again


def asked(url: str) -> dict[str, float]:
    """The queries' times, and the ceiling, on a loaded database."""
    engine = open_database(url)
    times = measure_queries(JobStore(engine))
    engine.dispose()
    return times | {"jobs_per_second": ceiling(url, MODEL)}


def measure(
    kind: str, rows: int, growth: list[int], folder: Path, redis_url: str, urls: Iterator[str]
) -> Figures:
    """Everything on one kind of database."""
    grown = {}
    for fewer in sorted(growth):
        smaller = next(urls)
        loaded(smaller, fewer, folder, redis_url)
        grown[str(fewer)] = asked(smaller)
    url = next(urls)
    first, again = loaded(url, rows, folder, redis_url)
    engine = open_database(url)
    store = JobStore(engine)
    sent = one_by_one(redis_url, store)
    copied = bare_copy(url, next(urls)) if kind == "postgresql" else None
    size = _bytes(engine)
    found = scans(engine, store) if kind == "postgresql" else {}
    queries = asked(url)
    figures = Figures(
        database=kind,
        rows=rows,
        rows_per_second=rows / first.seconds,
        client_cpu_seconds=first.cpu_seconds,
        peak_rss_mb=max(first.peak_mb, again.peak_mb),
        resubmit_ratio=again.seconds / first.seconds,
        copy_ratio=None if copied is None else first.seconds / copied,
        apply_async_ratio=sent / (first.seconds / rows),
        ceiling_jobs_per_second=queries.pop("jobs_per_second"),
        query_p95_ms=queries,
        database_bytes_per_job=size / rows,
        growth=grown,
        scans=found,
    )
    engine.dispose()
    return figures


def _bytes(engine: Engine) -> int:
    """What the tables and indexes take on disk."""
    sizes = {
        "postgresql": "SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables",
        "sqlite": "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
    }
    with engine.connect() as connection:
        return int(connection.exec_driver_sql(sizes[engine.dialect.name]).scalar_one())


@contextmanager
def databases(kind: str, folder: Path) -> Iterator[Iterator[str]]:
    """URLs of migrated, empty databases."""
    if kind == "sqlite":
        yield (_migrated(f"sqlite:///{folder / f'{number}.db'}") for number in range(9))
        return
    from tests.servers import postgres_server

    with postgres_server(folder / "postgres") as server:

        def made() -> Iterator[str]:
            for number in range(9):
                server.create(f"bench_{number}")
                yield _migrated(server.url(f"bench_{number}"))

        yield made()


def _migrated(url: str) -> str:
    upgrade(url)
    return url


def _libpq(url: str) -> str:
    return url.replace("+psycopg", "", 1)


def show(figures: list[Figures]) -> None:
    """Print a table."""
    table = Table("", *(each.database for each in figures), box=None)
    for name in asdict(figures[0]):
        table.add_row(name, *(_text(getattr(each, name)) for each in figures))
    Console().print(table)


def _text(value: object) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{name}: {_text(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.bulk")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--database", choices=("postgresql", "sqlite"), action="append")
    parser.add_argument(
        "--growth", type=int, action="append", metavar="ROWS", help="Look at a smaller table too."
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = []
    with tempfile.TemporaryDirectory(prefix="edict-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        valkey = Valkey(folder / "valkey")
        valkey.start()
        try:
            for kind in options.database or ("postgresql", "sqlite"):
                with databases(kind, folder) as urls:
                    figures.append(
                        measure(kind, options.rows, options.growth or [], folder, valkey.url, urls)
                    )
        finally:
            valkey.stop()
    if options.json:
        # The figures of the first database on top, as `bench` programs have them.
        first = asdict(figures[0])
        worst = max(first["query_p95_ms"].values())
        print(
            json.dumps({**first, "query_p95_ms": worst, "all": [asdict(each) for each in figures]})
        )
    else:
        show(figures)


if __name__ == "__main__":
    main()
