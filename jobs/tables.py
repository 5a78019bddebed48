"""The tables. SQL is the truth; everything else is a hint or a copy.

`migrations` brings a database to this shape, and a test compares the two.
"""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    Uuid,
    text,
)

from jobs.states import State

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment; SQLite, which knows no time zones, keeps it in UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Store in UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Read as UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _one_of(column: str, values: type[State]) -> str:
    return f"{column} IN ({', '.join(repr(value.value) for value in values)})"


batches = Table(
    "batches",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", String(200), unique=True),
    Column("created_at", UtcDateTime, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("spec", JSON, nullable=False),
    # The spec's digest, or the digest and the job's id where a repetition was forced.
    Column("identity", String(110), nullable=False, unique=True),
    Column("inversion_digest", String(64), nullable=False),
    Column("model", String(500), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("state", String(10), CheckConstraint(_one_of("state", State), "state"), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    Column("queued_at", UtcDateTime),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    # The fencing token: grows with every claim and never goes back.
    Column("token", BigInteger, nullable=False, server_default=text("0")),
    Column("worker", String(200)),
    Column("lease_until", UtcDateTime),
    Column("progress", Float),
    Column("error_code", String(50)),
    Column("error_message", Text),
    Column("result", JSON),
)
# For the dispatcher, the reconciler, and those that look for dead workers.
Index("ix_jobs_state_priority_id", jobs.c.state, jobs.c.priority.desc(), jobs.c.id)
Index("ix_jobs_state_model_queued_at", jobs.c.state, jobs.c.model, jobs.c.queued_at)
Index("ix_jobs_state_lease_until", jobs.c.state, jobs.c.lease_until)
Index("ix_jobs_inversion_digest", jobs.c.inversion_digest)

batch_jobs = Table(
    "batch_jobs",
    metadata,
    Column("batch_id", Uuid, ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
    Column("job_id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True, index=True),
)

bulk_chunks = Table(
    "bulk_chunks",
    metadata,
    Column("batch_id", Uuid, ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
    # Of a piece of a manifest, its images and its options; written with the jobs made of it.
    Column("digest", String(64), primary_key=True),
    # How many jobs the batch gained by it.
    Column("added", Integer, nullable=False),
)

known_sources = Table(
    "known_sources",
    metadata,
    # SHA-256 of where the image lies: addresses are too long for an index.
    Column("place_digest", String(64), primary_key=True),
    # What the place said of its content: an ETag, or a file's size and time.
    Column("mark", String(200), nullable=False),
    Column("uri", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("host", String(200), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("device", String(200), nullable=False),
    Column("model", String(500), nullable=False),
    Column("model_revision", String(100), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
)
