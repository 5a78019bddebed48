"""Webhooks: who wants to know of ends, and what is to be sent."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("job_id", sa.Uuid),
        sa.Column("batch_id", sa.Uuid),
        sa.Column("url", sa.String(2048), nullable=False),
        sa.Column("told", sa.Boolean, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
        sa.UniqueConstraint("job_id", "url", name="uq_webhooks_job_id_url"),
        sa.UniqueConstraint("batch_id", "url", name="uq_webhooks_batch_id_url"),
        *_subject("webhooks"),
    )
    op.create_index("ix_webhooks_told", "webhooks", ["told"])
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("job_id", sa.Uuid),
        sa.Column("batch_id", sa.Uuid),
        sa.Column("url", sa.String(2048), nullable=False),
        sa.Column("event", sa.String(30), nullable=False),
        sa.Column("payload", sa.JSON, nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("due_at", MOMENT, nullable=False),
        sa.Column("delivered_at", MOMENT),
        sa.Column("response_status", sa.Integer),
        sa.Column("error", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_deliveries"),
        sa.CheckConstraint(
            "state IN ('pending', 'delivered', 'failed')",
            name=op.f("ck_webhook_deliveries_state"),
        ),
        *_subject("webhook_deliveries"),
    )
    for columns in (["job_id"], ["batch_id"], ["state", "due_at"]):
        name = f"ix_webhook_deliveries_{'_'.join(columns)}"
        op.create_index(name, "webhook_deliveries", columns)


def _subject(table: str) -> list[sa.ForeignKeyConstraint]:
    """What a row speaks of goes, and the row with it."""
    return [
        sa.ForeignKeyConstraint(
            [f"{one}_id"], [f"{many}.id"], name=f"fk_{table}_{one}_id", ondelete="CASCADE"
        )
        for one, many in (("job", "jobs"), ("batch", "batches"))
    ]


def downgrade() -> None:
    for table in ("webhook_deliveries", "webhooks"):
        op.drop_table(table)
