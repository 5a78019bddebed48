"""Run migrations from Python; there is no alembic.ini to carry around."""

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from jobs.database import open_database


def upgrade(database_url: str, revision: str = "head") -> None:
    """Bring the database up to `revision`; does nothing where it is there already."""
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
        with engine.begin() as connection:
            config = _config()
            config.attributes["connection"] = connection
            run(config)
    finally:
        engine.dispose()
