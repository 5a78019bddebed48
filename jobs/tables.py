"""The tables. SQL is the truth; everything else is a hint or a copy.

`migrations` brings a database to this shape, and a test compares the two.
"""

from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
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
    UniqueConstraint,
    Uuid,
    false,
    text,
    true,
)

from jobs.access import MAX_TENANT_CHARACTERS, Scope
from jobs.marks import Verdict
from jobs.schedules import FiringState
from jobs.states import InversionState, State
from jobs.webhooks import MAX_URL_CHARACTERS, DeliveryState

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


def _one_of(column: str, values: type[StrEnum]) -> str:
    return f"{column} IN ({', '.join(repr(value.value) for value in values)})"


batches = Table(
    "batches",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", String(200), unique=True),
    Column("created_at", UtcDateTime, nullable=False),
    # The wish; `jobs.paused` follows, and `settled` says that all rows have it.
    Column("paused_at", UtcDateTime),
    Column("settled", Boolean, nullable=False, server_default=true()),
    # Conditions on figures; results that fall short of one are flagged (`jobs.gates`).
    Column("gate", JSON(none_as_null=True)),
    # Whose it is, where several share a deployment; null: the deployment's own.
    Column("tenant", String(MAX_TENANT_CHARACTERS)),
)
Index("ix_batches_tenant_id", batches.c.tenant, batches.c.id)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("spec", JSON, nullable=False),
    # The spec's digest, or the digest and the job's id where a repetition was forced.
    Column("identity", String(110), nullable=False, unique=True),
    Column("inversion_digest", String(64), nullable=False),
    # As workers serve it: the name, or name@revision where the job is pinned to one.
    Column("model", String(500), nullable=False),
    Column("priority", Integer, nullable=False),
    # Whether a batch of its is paused: it is then neither announced nor claimed.
    Column("paused", Boolean, nullable=False, server_default=false()),
    Column("state", String(10), CheckConstraint(_one_of("state", State), "state"), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    Column("queued_at", UtcDateTime),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    # Workers that fell silent while they ran it. What an error may cost is `attempts - losses`.
    Column("losses", Integer, nullable=False, server_default=text("0")),
    # The fencing token: grows with every claim and never goes back.
    Column("token", BigInteger, nullable=False, server_default=text("0")),
    Column("worker", String(200)),
    Column("lease_until", UtcDateTime),
    Column("progress", Float),
    Column("error_code", String(50)),
    Column("error_message", Text),
    Column("result", JSON),
    # As the batches' column. The identity holds it too: tenants never share a job.
    Column("tenant", String(MAX_TENANT_CHARACTERS)),
    # The trace that it was submitted in (W3C Trace Context); null: none (`jobs.tracing`).
    Column("traceparent", String(55)),
)
Index("ix_jobs_tenant_id", jobs.c.tenant, jobs.c.id)
# For the dispatcher, the reconciler, and those that look for dead workers.
Index(
    "ix_jobs_state_paused_model_priority_id",
    jobs.c.state,
    jobs.c.paused,
    jobs.c.model,
    jobs.c.priority.desc(),
    jobs.c.id,
)
Index("ix_jobs_state_model_queued_at", jobs.c.state, jobs.c.model, jobs.c.queued_at)
Index("ix_jobs_state_lease_until", jobs.c.state, jobs.c.lease_until)
Index("ix_jobs_inversion_digest", jobs.c.inversion_digest)

batch_jobs = Table(
    "batch_jobs",
    metadata,
    Column("batch_id", Uuid, ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
    Column("job_id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True, index=True),
    # Whether the job succeeded, but with figures below the batch's gate.
    Column("flagged", Boolean, nullable=False, server_default=false()),
)

# How many members of a batch are in a state: the sum over all shards. Kept by triggers.
batch_tallies = Table(
    "batch_tallies",
    metadata,
    # No foreign key: its check would have every end of a job lock the batch's row.
    Column("batch_id", Uuid, primary_key=True),
    Column("state", String(10), primary_key=True),
    # The error code of failed jobs; `flagged` of succeeded ones that are.
    Column("detail", String(50), primary_key=True),
    # 0: the sum so far. Others: changes that were not folded into it yet (PostgreSQL only).
    Column("shard", BigInteger, primary_key=True, autoincrement=False, index=True),
    Column("number", BigInteger, nullable=False),
)

inversions = Table(
    "inversions",
    metadata,
    # Where the latents lie, or will (`jobs.keys.inversion_key`).
    Column("key", String(120), primary_key=True),
    # What its jobs have in common: their `inversion_digest`.
    Column("digest", String(64), nullable=False, index=True),
    Column(
        "state",
        String(10),
        CheckConstraint(_one_of("state", InversionState), "state"),
        nullable=False,
    ),
    Column("holder", String(200), nullable=False),
    # Whether the holder runs nothing else meanwhile; what kills it then is this inversion.
    Column("alone", Boolean, nullable=False),
    # Grows with every claim, as a job's does.
    Column("token", BigInteger, nullable=False),
    Column("losses", Integer, nullable=False, server_default=text("0")),
    Column("lease_until", UtcDateTime),
    Column("claimed_at", UtcDateTime, nullable=False),
    Column("stored_at", UtcDateTime),
    Column("sha256", String(64)),
    Column("size", BigInteger),
    Column("fingerprint", Text),
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
    # Images that it edits at once, at most.
    Column("lanes", Integer, nullable=False, server_default=text("1")),
)

# Who wants to know of ends: of a job or of a batch.
webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("job_id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE")),
    Column("batch_id", Uuid, ForeignKey("batches.id", ondelete="CASCADE")),
    Column("url", String(MAX_URL_CHARACTERS), nullable=False),
    # Of a batch: whether its end was told since a job of it last ended. Of a job: always true.
    Column("told", Boolean, nullable=False, index=True),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("job_id", "url"),
    UniqueConstraint("batch_id", "url"),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("job_id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE"), index=True),
    Column("batch_id", Uuid, ForeignKey("batches.id", ondelete="CASCADE"), index=True),
    Column("url", String(MAX_URL_CHARACTERS), nullable=False),
    Column("event", String(30), nullable=False),
    Column("payload", JSON, nullable=False),
    Column(
        "state",
        String(10),
        CheckConstraint(_one_of("state", DeliveryState), "state"),
        nullable=False,
    ),
    # Counts up with every sending, so that a late answer cannot end a later one.
    Column("attempts", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    Column("delivered_at", UtcDateTime),
    Column("response_status", Integer),
    Column("error", Text),
)
Index("ix_webhook_deliveries_state_due_at", webhook_deliveries.c.state, webhook_deliveries.c.due_at)
schedules = Table(
    "schedules",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", String(150), nullable=False, unique=True),
    Column("cron", String(200), nullable=False),
    Column("timezone", String(64), nullable=False),
    Column("source", Text, nullable=False),
    Column("template", JSON, nullable=False),
    Column("reasons", JSON, nullable=False),
    Column("catch_up", String(10), nullable=False),
    Column("overlap", String(10), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("paused_at", UtcDateTime),
    # The first firing time that has no row yet. It moves in the transaction that makes the rows.
    Column("next_at", UtcDateTime, nullable=False, index=True),
    # The model's, when a worker for it was last seen.
    Column("model_revision", String(100)),
)

firings = Table(
    "firings",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("schedule_id", Uuid, ForeignKey("schedules.id", ondelete="CASCADE"), nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    Column("manual", Boolean, nullable=False),
    Column(
        "state", String(10), CheckConstraint(_one_of("state", FiringState), "state"), nullable=False
    ),
    Column("created_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    # The fencing token, as that of a job.
    Column("token", BigInteger, nullable=False, server_default=text("0")),
    Column("holder", String(200)),
    Column("lease_until", UtcDateTime),
    Column("batch_id", Uuid, ForeignKey("batches.id", ondelete="SET NULL")),
    Column("looked_at", Integer, nullable=False, server_default=text("0")),
    Column("submitted", Integer, nullable=False, server_default=text("0")),
    Column("refused", Integer, nullable=False, server_default=text("0")),
    Column("note", Text),
    UniqueConstraint("schedule_id", "due_at"),
)
Index("ix_firings_state_due_at", firings.c.state, firings.c.due_at)

# What a schedule saw of each image when it last submitted it: it outlives the jobs' rows.
schedule_items = Table(
    "schedule_items",
    metadata,
    Column("schedule_id", Uuid, ForeignKey("schedules.id", ondelete="CASCADE"), primary_key=True),
    # SHA-256 of its address.
    Column("item", String(64), primary_key=True),
    Column("stamp", String(200), nullable=False),
    Column("recipe", String(64), nullable=False),
    Column("model_revision", String(100)),
)

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

# Whose turn it is: work that one control process does at a time.
turns = Table(
    "turns",
    metadata,
    Column("name", String(50), primary_key=True),
    Column("next_at", UtcDateTime, nullable=False),
)

# Keys of the HTTP API. Only a digest is kept: the key itself was shown once.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("scope", String(10), CheckConstraint(_one_of("scope", Scope), "scope"), nullable=False),
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
        CheckConstraint(_one_of("verdict", Verdict), "verdict"),
        nullable=False,
    ),
    Column("marked_by", String(100), nullable=False),
    Column("marked_at", UtcDateTime, nullable=False),
)
