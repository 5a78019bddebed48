"""What is kept how long, and what goes."""

from sqlalchemy import JSON, Column, Float, ForeignKey, String, Table, Uuid

from jobs.tables.base import UtcDateTime, metadata

# What is kept how long; where a batch has no row of its own, the global one counts.
retentions = Table(
    "retentions",
    metadata,
    # The batch's id in hexadecimal digits, or "global": a key may not be null.
    Column("scope", String(32), primary_key=True),
    Column("what", String(10), primary_key=True),
    Column("batch_id", Uuid, ForeignKey("batches.id", ondelete="CASCADE"), index=True),
    # Null: until the job's results were exported.
    Column("days", Float),
)

job_exports = Table(
    "job_exports",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("exported_at", UtcDateTime, nullable=False),
)

# The outbox of deletions: objects that a row spoke of, and that are to leave the bucket.
deletions = Table(
    "deletions",
    metadata,
    Column("key", String(300), primary_key=True),
    # Of an inversion: digests of the jobs that may use it.
    Column("digests", JSON),
    Column("marked_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
)
