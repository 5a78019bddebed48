"""Webhooks, and what they are told."""

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)

from jobs.tables.base import UtcDateTime, metadata, one_of
from jobs.webhooks import MAX_URL_CHARACTERS, DeliveryState

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
        CheckConstraint(one_of("state", DeliveryState), "state"),
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
