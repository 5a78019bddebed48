"""Verdicts on results, tenants, quotas of keys, and who submitted what."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
QUOTAS: dict[str, sa.types.TypeEngine[Any]] = {
    "tenant": sa.String(40),
    "max_requests": sa.Integer(),
    "max_live": sa.Integer(),
    "max_jobs": sa.Integer(),
    "max_bytes": sa.BigInteger(),
}


def upgrade() -> None:
    op.create_table(
        "marks",
        sa.Column("job_id", sa.Uuid, nullable=False),
        sa.Column("verdict", sa.String(10), nullable=False),
        sa.Column("marked_by", sa.String(100), nullable=False),
        sa.Column("marked_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_marks"),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name="fk_marks_job_id", ondelete="CASCADE"
        ),
        sa.CheckConstraint("verdict IN ('approved', 'rejected')", name=op.f("ck_marks_verdict")),
    )
    for table in ("jobs", "batches"):
        op.add_column(table, sa.Column("tenant", sa.String(40)))
        op.create_index(f"ix_{table}_tenant_id", table, ["tenant", "id"])
    for name, kind in QUOTAS.items():
        op.add_column("api_keys", sa.Column(name, kind))
    op.create_table(
        "api_submissions",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("caller", sa.String(32), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("tenant", sa.String(40)),
        sa.Column("jobs", sa.Integer, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("job_id", sa.Uuid),
        sa.Column("batch_id", sa.Uuid),
        sa.PrimaryKeyConstraint("id", name="pk_api_submissions"),
    )
    op.create_index("ix_api_submissions_caller_at", "api_submissions", ["caller", "at"])


def downgrade() -> None:
    op.drop_table("api_submissions")
    for name in reversed(QUOTAS):
        op.drop_column("api_keys", name)
    for table in ("batches", "jobs"):
        op.drop_index(f"ix_{table}_tenant_id", table)
        op.drop_column(table, "tenant")
    op.drop_table("marks")
