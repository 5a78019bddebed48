"""Batches, jobs, and who does them."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    Uuid,
    false,
    text,
    true,
)

from jobs.access import MAX_TENANT_CHARACTERS
from jobs.states import InversionState, State
from jobs.tables.base import UtcDateTime, metadata, one_of

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
    Column("state", String(10), CheckConstraint(one_of("state", State), "state"), nullable=False),
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
        CheckConstraint(one_of("state", InversionState), "state"),
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
