"""What bulk submission remembers: pieces of manifests that are in, and images that were read."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "bulk_chunks",
        sa.Column("batch_id", sa.Uuid, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("added", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "digest", name="pk_bulk_chunks"),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["batches.id"], name="fk_bulk_chunks_batch_id", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "known_sources",
        sa.Column("place_digest", sa.String(64), nullable=False),
        sa.Column("mark", sa.String(200), nullable=False),
        sa.Column("uri", sa.Text, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("place_digest", name="pk_known_sources"),
    )


def downgrade() -> None:
    op.drop_table("known_sources")
    op.drop_table("bulk_chunks")
