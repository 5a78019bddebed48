"""Alembic's entry point: runs on the connection that `migrations.run` hands over.

On PostgreSQL that connection is in no transaction yet, and every revision gets one of its own, so
that none holds the locks of another. On SQLite all of them are in the one that was begun.
"""

from alembic import context
from sqlalchemy import Connection

from jobs.tables import metadata

connection: Connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
