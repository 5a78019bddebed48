"""Run migrations from Python; there is no alembic.ini to carry around.

A fleet that migrates at start-up takes turns. Workers run meanwhile, so no statement may wait long
for a table: whoever asks for it after us would wait behind us.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import OperationalError

from jobs.database import open_database
from jobs.errors import ServiceUnavailable
from jobs.settings import without_password

LOCK_SECONDS = 3
"""How long a statement waits for a table: a tenth of the shortest usual lease."""

_TURN = 0x6564696374  # "edict"
_TURN_POLL_SECONDS = 0.2


def upgrade(database_url: str, revision: str = "head") -> None:
    """Bring the database up to `revision`; does nothing where it is there already.

    Raises:
        ServiceUnavailable: on PostgreSQL, a table is locked for longer than `LOCK_SECONDS`. The
            revisions before are there; try again for the rest.
    """
    _with_connection(database_url, lambda config: command.upgrade(config, revision))


def downgrade(database_url: str, revision: str = "base") -> None:
    """Bring the database down to `revision`. Data that the older shape cannot hold is lost."""
    _with_connection(database_url, lambda config: command.downgrade(config, revision))


def head_revision() -> str | None:
    """The newest revision that this version of the project knows."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def current_revision(engine: Engine) -> str | None:
    """The revision that a database stands at; None for one that was never migrated."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return config


def _with_connection(database_url: str, run: Callable[[Config], None]) -> None:
    engine = open_database(database_url)
    try:
        with _connection(engine) as connection:
            config = _config()
            config.attributes["connection"] = connection
            run(config)
    except OperationalError as error:
        if isinstance(error.orig, LockNotAvailable):
            raise ServiceUnavailable(_busy(database_url, error.orig)) from None
        raise
    finally:
        engine.dispose()


def _busy(database_url: str, reason: LockNotAvailable) -> str:
    return (
        f"database {without_password(database_url)}: a table is in use for longer than the "
        f"{LOCK_SECONDS} s that a migration waits ({str(reason).strip().splitlines()[0]}). Nothing "
        "was changed by this step. See pg_stat_activity for a long transaction, such as a dump, "
        "and run `edict migrate` again when it is over"
    )


@contextmanager
def _connection(engine: Engine) -> Iterator[Connection]:
    if engine.dialect.name == "sqlite":
        # Whoever comes second waits for the write lock, which is taken when a transaction begins.
        with engine.begin() as connection:
            yield connection
        return
    event.listen(engine, "begin", _wait_briefly)
    with _turn(engine), engine.connect() as connection:
        yield connection


def _wait_briefly(connection: Connection) -> None:
    # For the transaction: a pooler may give the session to somebody else. `CREATE INDEX
    # CONCURRENTLY`, outside of any, keeps nobody waiting while it waits itself.
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")


@contextmanager
def _turn(engine: Engine) -> Iterator[None]:
    """Be the only one who migrates this database.

    By a lock of a second connection's transaction, as there is none for all revisions. It is asked
    for again and again, and never waited for: a statement that waits has a snapshot, for whose end
    `CREATE INDEX CONCURRENTLY` would wait in turn.
    """
    ours = text("SELECT pg_try_advisory_xact_lock(:turn)")
    while True:
        with engine.begin() as connection:
            if connection.execute(ours, {"turn": _TURN}).scalar_one():
                # However long we take. This also ends the snapshot of the question before it.
                connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
                yield
                return
        time.sleep(_TURN_POLL_SECONDS)
