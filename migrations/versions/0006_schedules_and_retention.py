"""Schedules with their firings and memory; what is kept how long, and what is to be deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "schedules",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("name", sa.String(150), nullable=False),
        sa.Column("cron", sa.String(200), nullable=False),
        sa.Column("timezone", sa.String(64), nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("template", sa.JSON, nullable=False),
        sa.Column("reasons", sa.JSON, nullable=False),
        sa.Column("catch_up", sa.String(10), nullable=False),
        sa.Column("overlap", sa.String(10), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("paused_at", MOMENT),
        sa.Column("next_at", MOMENT, nullable=False),
        sa.Column("model_revision", sa.String(100)),
        sa.PrimaryKeyConstraint("id", name="pk_schedules"),
        sa.UniqueConstraint("name", name="uq_schedules_name"),
    )
    op.create_index("ix_schedules_next_at", "schedules", ["next_at"])
    _create_firings()
    op.create_table(
        "schedule_items",
        sa.Column("schedule_id", sa.Uuid, nullable=False),
        sa.Column("item", sa.String(64), nullable=False),
        sa.Column("stamp", sa.String(200), nullable=False),
        sa.Column("recipe", sa.String(64), nullable=False),
        sa.Column("model_revision", sa.String(100)),
        sa.PrimaryKeyConstraint("schedule_id", "item", name="pk_schedule_items"),
        _reference("schedule_items", "schedule_id", "schedules"),
    )
    op.create_table(
        "retentions",
        sa.Column("scope", sa.String(32), nullable=False),
        sa.Column("what", sa.String(10), nullable=False),
        sa.Column("batch_id", sa.Uuid),
        sa.Column("days", sa.Float),
        sa.PrimaryKeyConstraint("scope", "what", name="pk_retentions"),
        _reference("retentions", "batch_id", "batches"),
    )
    op.create_index("ix_retentions_batch_id", "retentions", ["batch_id"])
    op.create_table(
        "job_exports",
        sa.Column("job_id", sa.Uuid, nullable=False),
        sa.Column("exported_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_job_exports"),
        _reference("job_exports", "job_id", "jobs"),
    )
    op.create_table(
        "deletions",
        sa.Column("key", sa.String(300), nullable=False),
        sa.Column("digests", sa.JSON),
        sa.Column("marked_at", MOMENT, nullable=False),
        sa.Column("deleted_at", MOMENT),
        sa.PrimaryKeyConstraint("key", name="pk_deletions"),
    )
    op.create_table(
        "turns",
        sa.Column("name", sa.String(50), nullable=False),
        sa.Column("next_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_turns"),
    )


def _create_firings() -> None:
    op.create_table(
        "firings",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("schedule_id", sa.Uuid, nullable=False),
        sa.Column("due_at", MOMENT, nullable=False),
        sa.Column("manual", sa.Boolean, nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT),
        sa.Column("attempts", sa.Integer, server_default=sa.text("0"), nullable=False),
        sa.Column("token", sa.BigInteger, server_default=sa.text("0"), nullable=False),
        sa.Column("holder", sa.String(200)),
        sa.Column("lease_until", MOMENT),
        sa.Column("batch_id", sa.Uuid),
        *(
            sa.Column(name, sa.Integer, server_default=sa.text("0"), nullable=False)
            for name in ("looked_at", "submitted", "refused")
        ),
        sa.Column("note", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_firings"),
        sa.UniqueConstraint("schedule_id", "due_at", name="uq_firings_schedule_id_due_at"),
        sa.CheckConstraint(
            "state IN ('waiting', 'firing', 'running', 'done', 'skipped', 'failed')",
            name=op.f("ck_firings_state"),
        ),
        _reference("firings", "schedule_id", "schedules"),
        _reference("firings", "batch_id", "batches", ondelete="SET NULL"),
    )
    op.create_index("ix_firings_state_due_at", "firings", ["state", "due_at"])


def _reference(
    table: str, column: str, target: str, *, ondelete: str = "CASCADE"
) -> sa.ForeignKeyConstraint:
    name = f"fk_{table}_{column}"
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=name, ondelete=ondelete)


def downgrade() -> None:
    for table in (
        "turns",
        "deletions",
        "job_exports",
        "retentions",
        "schedule_items",
        "firings",
        "schedules",
    ):
        op.drop_table(table)
