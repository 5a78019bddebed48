"""Alembic's entry point: runs on the connection that `migrations.run` hands over.

The advisory lock makes a fleet that migrates at start-up take turns; SQLite's own write lock,
taken when the transaction begins, does the same there.
"""

from alembic import context
from sqlalchemy import Connection, text

from jobs.tables import metadata

_LOCK = 0x6564696374  # "edict"

connection: Connection = context.config.attributes["connection"]
if connection.dialect.name == "postgresql":
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=connection.dialect.name == "sqlite",
)
context.run_migrations()
