"""Pauses, an index for each model's queue, pinned jobs under a label of their own, lanes."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BY_PRIORITY = "ix_jobs_state_priority_id"
BY_MODEL = "ix_jobs_state_paused_model_priority_id"

jobs = sa.table(
    "jobs", sa.column("model", sa.String), sa.column("spec", sa.JSON), sa.column("state", sa.String)
)
REVISION = jobs.c.spec["model"]["revision"].as_string()
NAME = jobs.c.spec["model"]["name"].as_string()


def upgrade() -> None:
    op.add_column("batches", sa.Column("paused_at", sa.DateTime(timezone=True)))
    op.add_column(
        "batches", sa.Column("settled", sa.Boolean, server_default=sa.true(), nullable=False)
    )
    op.add_column(
        "jobs", sa.Column("paused", sa.Boolean, server_default=sa.false(), nullable=False)
    )
    op.add_column(
        "workers", sa.Column("lanes", sa.Integer, server_default=sa.text("1"), nullable=False)
    )
    op.drop_index(BY_PRIORITY, "jobs")
    op.create_index(BY_MODEL, "jobs", ["state", "paused", "model", sa.text("priority DESC"), "id"])
    op.execute(
        jobs.update().where(REVISION.is_not(None)).values(model=jobs.c.model + "@" + REVISION)
    )
    _announce_again()


def downgrade() -> None:
    op.execute(jobs.update().where(REVISION.is_not(None)).values(model=NAME))
    op.drop_index(BY_MODEL, "jobs")
    op.create_index(BY_PRIORITY, "jobs", ["state", sa.text("priority DESC"), "id"])
    op.drop_column("workers", "lanes")
    op.drop_column("jobs", "paused")
    op.drop_column("batches", "settled")
    op.drop_column("batches", "paused_at")
    _announce_again()


def _announce_again() -> None:
    """Queues have other names from here on: no message is to be waited for."""
    op.execute(jobs.update().where(jobs.c.state == "queued").values(state="pending"))
