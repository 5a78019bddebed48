"""Making very much work: thousands of jobs a transaction, and what makes it resumable.

A manifest comes in chunks. A chunk's jobs and its marker are committed together, so that whatever
is killed in between, a chunk is either in or not, and is known by its digest when it comes again.
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from psycopg.errors import UniqueViolation
from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    Uuid,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import Insert

from jobs.ids import new_id
from jobs.specs import Spec
from jobs.states import State
from jobs.store.inverting import forgive_inversions
from jobs.store.steering import Steering
from jobs.store.submitting import ENDED_BADLY, may_urge, urge
from jobs.tables import (
    UtcDateTime,
    batch_jobs,
    batch_tallies,
    bulk_chunks,
    jobs,
)
from jobs.tracing import span, traceparent
from jobs.writing import SpecWriter

_incoming = Table(
    "bulk_incoming",
    MetaData(),
    Column("id", Uuid),
    Column("kind", String),
    Column("spec", JSON),
    Column("identity", String),
    Column("inversion_digest", String),
    Column("model", String),
    Column("priority", Integer),
    Column("traceparent", String),
)
_SAME = jobs.c.identity.in_(select(_incoming.c.identity))
_COLUMNS = [column.name for column in _incoming.columns]
_LAYOUT = (
    "id {}, kind text, spec {}, identity text, inversion_digest text, model text, priority int, "
    "traceparent text"
)
_POSTGRESQL = (
    f"CREATE TEMPORARY TABLE bulk_incoming ({_LAYOUT.format('uuid', 'json')}) ON COMMIT DROP"
)
_SQLITE = f"CREATE TEMPORARY TABLE IF NOT EXISTS bulk_incoming ({_LAYOUT.format('text', 'text')})"
_COPY = f"COPY bulk_incoming ({', '.join(_COLUMNS)}) FROM STDIN"
_COPY_JOBS = f"COPY jobs ({', '.join(_COLUMNS)}, state, created_at, due_at) FROM STDIN"
_COPY_MEMBERS = "COPY batch_jobs (batch_id, job_id) FROM STDIN"
_FILL = f"INSERT INTO bulk_incoming VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - ours

_NULL = r"\N"
"""As COPY reads it."""

_making = threading.Lock()
"""A chunk's ids follow each other though two are made at once: edits of an image stay together."""

_Row = tuple[str, str, str, str, str, str, int, str | None]


@dataclass(frozen=True)
class Loaded:
    """What one chunk came to, in jobs."""

    created: int
    known: int
    """Submitted before, in this chunk or earlier; those that had ended badly are tried again."""


class Bulk(Steering):
    """What manifests ask for."""

    @property
    def writers(self) -> int:
        """How many chunks the database takes at once to advantage: SQLite has one writer."""
        return 1 if self._engine.dialect.name == "sqlite" else 2

    def submit_chunk(
        self,
        specs: Iterable[Spec],
        *,
        batch_id: UUID,
        digest: str | None,
        priority: int = 0,
        force: bool = False,
    ) -> Loaded:
        """Commit the jobs of a chunk and its marker (None: it is to be looked at again).

        A spec that was submitted before is the same job, as in `submit`; `force` makes new jobs.
        """
        with span("submit"):
            return self._submit_chunk_of(specs, batch_id, digest, priority, force=force)

    def _submit_chunk_of(
        self,
        specs: Iterable[Spec],
        batch_id: UUID,
        digest: str | None,
        priority: int,
        *,
        force: bool,
    ) -> Loaded:
        writer = SpecWriter()
        with _making:
            rows = [self._text_row(writer, spec, priority, force=force) for spec in specs]
        # In one order for all: two submissions that share specs must not wait in a circle.
        rows.sort(key=_identity)
        with self._engine.begin() as connection:
            paused = self._enter(connection, batch_id)
            if self._copy_new(connection, batch_id, rows):
                created = added = len(rows)
                members = [UUID(row[0]) for row in rows]
            else:
                created, added = self._merge(connection, batch_id, rows, priority)
                members = list(connection.scalars(select(jobs.c.id).where(_SAME))) if paused else []
            if paused:
                self._hold(connection, members)
            if digest is not None:
                marker = {"batch_id": batch_id, "digest": digest, "added": added}
                connection.execute(
                    self._insert(bulk_chunks).values(marker).on_conflict_do_nothing()
                )
            if connection.dialect.name == "sqlite":
                connection.execute(delete(_incoming))
        return Loaded(created, len(rows) - created)

    def _copy_new(self, connection: Connection, batch_id: UUID, rows: Sequence[_Row]) -> bool:
        """Write jobs that nobody submitted before straight into the tables.

        False: one is known, or comes twice, or the database has no COPY; nothing is changed.
        """
        if connection.dialect.name == "sqlite":
            return False
        now = self._clock().isoformat()
        new = f"\t{State.PENDING.value}\t{now}\t{now}\n"
        try:
            with connection.begin_nested():
                _copy(connection, _COPY_JOBS, (f"{_line(row)}{new}" for row in rows))
        except UniqueViolation:
            return False
        job_ids = sorted(row[0] for row in rows)
        _copy(connection, _COPY_MEMBERS, (f"{batch_id}\t{job_id}\n" for job_id in job_ids))
        return True

    def _merge(
        self, connection: Connection, batch_id: UUID, rows: Sequence[_Row], priority: int
    ) -> tuple[int, int]:
        """Write jobs some of which may be known; says how many are new, and how many members."""
        self._fill(connection, rows)
        created = _count(connection, self._insert_incoming())
        all_new = created == len(rows)
        if not all_new:
            self._renew_incoming(connection, batch_id, priority)
        added = self._join_batch(connection, batch_id, all_new=all_new)
        if not all_new:
            self._judge_new(connection, select(jobs.c.id).where(_SAME), batch_id)
        return created, added

    @staticmethod
    def _text_row(writer: SpecWriter, spec: Spec, priority: int, *, force: bool) -> _Row:
        written, job_id = writer.write(spec), new_id().hex
        # As JobStore names ids in identities: with dashes.
        identity = f"{written.digest}:{UUID(job_id)}" if force else written.digest
        inversion, model = written.inversion_digest, spec.model.label
        trace = traceparent()
        return (job_id, spec.kind, written.json, identity, inversion, model, priority, trace)

    @staticmethod
    def _fill(connection: Connection, rows: Sequence[_Row]) -> None:
        """Put the rows into a temporary table, by the quickest way of the database."""
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(_SQLITE)
            connection.exec_driver_sql(_FILL, list(rows))
            return
        connection.exec_driver_sql(_POSTGRESQL)
        _copy(connection, _COPY, (f"{_line(row)}\n" for row in rows))

    def _insert_incoming(self) -> Insert:
        now = literal(self._clock(), UtcDateTime)
        state = literal(State.PENDING.value)
        names = [*_COLUMNS, "state", "created_at", "due_at"]
        # In the order that the quick way has, too.
        # (SQLite reads ON CONFLICT as part of the SELECT unless there is a WHERE.)
        rows = select(_incoming, state, now, now).where(true()).order_by(_incoming.c.identity)
        inserted: Insert = self._insert(jobs).from_select(names, rows)
        return inserted.on_conflict_do_nothing()

    @staticmethod
    def _lock_known(connection: Connection, batch_id: UUID, priority: int) -> None:
        """Lock the known jobs that change or that become members, all of them in one order.

        A job that the batch has already and that stays as it is is left alone: whoever claims jobs
        passes over those that are locked.
        """
        member = exists().where(batch_jobs.c.batch_id == batch_id, batch_jobs.c.job_id == jobs.c.id)
        known = select(jobs.c.id).where(_SAME, or_(ENDED_BADLY, may_urge(priority), ~member))
        connection.execute(known.order_by(jobs.c.id).with_for_update(key_share=True))

    def _renew_incoming(self, connection: Connection, batch_id: UUID, priority: int) -> None:
        """Give what had failed or been cancelled its new spec, and a new life."""
        if connection.dialect.name == "postgresql":
            # Else the planner thinks of a handful of rows, or of a scan of all jobs.
            connection.exec_driver_sql("ANALYZE bulk_incoming")
        self._lock_known(connection, batch_id, priority)
        forgive_inversions(connection, _SAME)
        same = jobs.c.identity == _incoming.c.identity
        connection.execute(update(jobs).where(same, ENDED_BADLY).values(spec=_incoming.c.spec))
        connection.execute(self._revive(_SAME).values(priority=priority))
        connection.execute(urge(_SAME, priority))

    def _join_batch(self, connection: Connection, batch_id: UUID, *, all_new: bool) -> int:
        """Make the jobs members of the batch; says how many were not."""
        batch = literal(batch_id, Uuid)
        if all_new:
            members = select(batch, _incoming.c.id).where(true()).order_by(_incoming.c.id)
        else:
            members = select(batch, jobs.c.id).where(_SAME).order_by(jobs.c.id)
        joined = self._insert(batch_jobs).from_select(["batch_id", "job_id"], members)
        return _count(connection, joined.on_conflict_do_nothing())

    def chunks_in(self, batch_id: UUID, digests: Sequence[str]) -> frozenset[str]:
        """Which of these chunks the batch has."""
        found = select(bulk_chunks.c.digest).where(
            bulk_chunks.c.batch_id == batch_id, bulk_chunks.c.digest.in_(digests)
        )
        with self._reader.connect() as connection:
            return frozenset(connection.scalars(found))

    def forget_lost_chunks(self, batch_id: UUID) -> bool:
        """Drop a batch's markers if it has fewer jobs than they gave it: some were removed since.

        What is still there is then found job by job. Says whether markers were dropped.
        """
        members = select(func.count()).where(batch_jobs.c.batch_id == batch_id)
        gained = select(func.coalesce(func.sum(bulk_chunks.c.added), 0)).where(
            bulk_chunks.c.batch_id == batch_id
        )
        with self._engine.begin() as connection:
            lost = connection.scalar(members) < connection.scalar(gained)  # type: ignore[operator]
            if lost:
                connection.execute(delete(bulk_chunks).where(bulk_chunks.c.batch_id == batch_id))
        return bool(lost)

    def look_at_tables(self) -> None:
        """Have the planner know how large the tables are now, after very many rows at once."""
        if self._engine.dialect.name == "postgresql":
            with self._reader.connect() as connection:
                for table in (jobs, batch_jobs, batch_tallies):
                    connection.exec_driver_sql(f"ANALYZE {table.name}")

    def retry_ended(self, batch_id: UUID) -> int:
        """Give the batch's failed and cancelled jobs a new life; says how many."""
        members = select(batch_jobs.c.job_id).where(batch_jobs.c.batch_id == batch_id)
        return self._retry(jobs.c.id.in_(members))

    def states_of(self, identities: Sequence[str]) -> dict[str, State]:
        """The states of the jobs of these digests, as far as there are any."""
        known = select(jobs.c.identity, jobs.c.state).where(jobs.c.identity.in_(identities))
        with self._reader.connect() as connection:
            return {row.identity: State(row.state) for row in connection.execute(known)}


def _identity(row: _Row) -> str:
    return row[3]


def _copy(connection: Connection, statement: str, lines: Iterable[str]) -> None:
    """Run a COPY with lines of its text format: quicker than row by row."""
    driver = connection.connection
    with driver.cursor() as cursor, cursor.copy(statement) as copy:  # type: ignore[attr-defined]
        copy.write("".join(lines))


def _line(row: _Row) -> str:
    job_id, kind, spec, identity, inversion_digest, model, priority, trace = row
    fields = (job_id, kind, _escaped(spec), identity, inversion_digest, _escaped(model))
    return "\t".join((*fields, str(priority), trace or _NULL))


def _escaped(text: str) -> str:
    """As COPY reads it."""
    text = text.replace("\\", r"\\")
    return text.replace("\t", r"\t").replace("\n", r"\n").replace("\r", r"\r")


def _count(connection: Connection, inserted: Insert) -> int:
    """Run the statement; says how many rows it inserted."""
    # SQLAlchemy keeps the driver's count of an INSERT only where it is told to.
    options = {"preserve_rowcount": True}
    return connection.execute(inserted, execution_options=options).rowcount
