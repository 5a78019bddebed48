"""Alembic migrations, shipped inside the wheel: `edict migrate` needs no checkout."""

from migrations.run import current_revision, downgrade, head_revision, upgrade

__all__ = ["current_revision", "downgrade", "head_revision", "upgrade"]
