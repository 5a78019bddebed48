"""Schedules, what they saw, and whose turn something is."""

from sqlalchemy import (
    JSON,
    BigInteger,
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
    text,
)

from jobs.schedules import FiringState
from jobs.tables.base import UtcDateTime, metadata, one_of

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
        "state", String(10), CheckConstraint(one_of("state", FiringState), "state"), nullable=False
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

# Whose turn it is: work that one control process does at a time.
turns = Table(
    "turns",
    metadata,
    Column("name", String(50), primary_key=True),
    Column("next_at", UtcDateTime, nullable=False),
)
