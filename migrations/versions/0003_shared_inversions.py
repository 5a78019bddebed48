"""One computation for each inversion, and a count of the workers that a job has cost."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column(
        "jobs", sa.Column("losses", sa.Integer, server_default=sa.text("0"), nullable=False)
    )
    op.create_table(
        "inversions",
        sa.Column("key", sa.String(120), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("holder", sa.String(200), nullable=False),
        sa.Column("alone", sa.Boolean, nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("losses", sa.Integer, server_default=sa.text("0"), nullable=False),
        sa.Column("lease_until", MOMENT),
        sa.Column("claimed_at", MOMENT, nullable=False),
        sa.Column("stored_at", MOMENT),
        sa.Column("sha256", sa.String(64)),
        sa.Column("size", sa.BigInteger),
        sa.Column("fingerprint", sa.Text),
        sa.PrimaryKeyConstraint("key", name="pk_inversions"),
        sa.CheckConstraint(
            "state IN ('computing', 'stored', 'abandoned')", name=op.f("ck_inversions_state")
        ),
    )
    op.create_index("ix_inversions_digest", "inversions", ["digest"])


def downgrade() -> None:
    op.drop_table("inversions")
    op.drop_column("jobs", "losses")
