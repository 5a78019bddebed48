"""Who may use the HTTP API, and what they did; and what people said of results."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    Uuid,
)

from jobs.access import MAX_TENANT_CHARACTERS, Scope
from jobs.marks import Verdict
from jobs.tables.base import UtcDateTime, metadata, one_of

# Keys of the HTTP API. Only a digest is kept: the key itself was shown once.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("scope", String(10), CheckConstraint(one_of("scope", Scope), "scope"), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    # Null: sees and does everything that its scope allows.
    Column("tenant", String(MAX_TENANT_CHARACTERS)),
    # Quotas, see `jobs.access.Quota`. Null: no limit.
    Column("max_requests", Integer),
    Column("max_live", Integer),
    Column("max_jobs", Integer),
    Column("max_bytes", BigInteger),
)

# What was answered to requests that bore an `Idempotency-Key`; null while one is being answered.
api_answers = Table(
    "api_answers",
    metadata,
    # The key's id in hexadecimal digits, or "local".
    Column("caller", String(32), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("status", Integer),
    Column("body", Text),
    Column("location", String(200)),
    Column("media_type", String(100)),
    Column("created_at", UtcDateTime, nullable=False, index=True),
)

# Who submitted what over HTTP. Kept for quotas of a day, and for questions later.
api_submissions = Table(
    "api_submissions",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    # As in `api_answers`; and the key's name then.
    Column("caller", String(32), nullable=False),
    Column("name", String(100), nullable=False),
    Column("tenant", String(MAX_TENANT_CHARACTERS)),
    Column("jobs", Integer, nullable=False),
    # That were uploaded with it.
    Column("bytes", BigInteger, nullable=False),
    # One of both; neither while it is being made. No foreign keys: it outlives what it speaks of.
    Column("job_id", Uuid),
    Column("batch_id", Uuid),
)
Index("ix_api_submissions_caller_at", api_submissions.c.caller, api_submissions.c.at)

# What people said of results.
marks = Table(
    "marks",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column(
        "verdict",
        String(10),
        CheckConstraint(one_of("verdict", Verdict), "verdict"),
        nullable=False,
    ),
    Column("marked_by", String(100), nullable=False),
    Column("marked_at", UtcDateTime, nullable=False),
)
