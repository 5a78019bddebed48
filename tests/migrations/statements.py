"""The SQL that revisions really send to PostgreSQL, transactions included, and what squawk says.

Alembic's offline mode could not render those that look at data first.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, event

import migrations

CONFIGURATION = Path(__file__).with_name("squawk.toml")


def revisions() -> list[str]:
    """All revisions, oldest first."""
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
    return [script.revision for script in scripts.walk_revisions()][::-1]


def sent(database_url: str, revision: str) -> str:
    """Upgrade to `revision`, and give the SQL that did it, as one script."""
    with _recorded() as statements:
        migrations.upgrade(database_url, revision)
    # The other connection only holds the turn.
    [ours] = {who for who, statement in statements if "UPDATE alembic_version" in statement} or {
        who for who, statement in statements if "INSERT INTO alembic_version" in statement
    }
    return "".join(
        f"{statement.strip().rstrip(';')};\n" for who, statement in statements if who == ours
    )


@contextmanager
def _recorded() -> Iterator[list[tuple[int, str]]]:
    statements: list[tuple[int, str]] = []

    def note(connection: Connection, statement: str) -> None:
        statements.append((id(connection.connection.dbapi_connection), statement))

    def in_transaction(connection: Connection) -> bool:
        return connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT"

    def begin(connection: Connection) -> None:
        if in_transaction(connection):
            note(connection, "BEGIN")

    def commit(connection: Connection) -> None:
        if in_transaction(connection):
            note(connection, "COMMIT")

    def execute(connection: Connection, cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if values:
            statement = psycopg.ClientCursor(cursor.connection).mogrify(statement, values)
        note(connection, statement)

    listeners = {"begin": begin, "commit": commit, "before_cursor_execute": execute}
    for name, listener in listeners.items():
        event.listen(Engine, name, listener)
    try:
        yield statements
    finally:
        for name, listener in listeners.items():
            event.remove(Engine, name, listener)


def complaints(script: str) -> set[str]:
    """The rules of `squawk.toml` that an SQL script breaks."""
    squawk = shutil.which("squawk", path=str(Path(sys.executable).parent)) or "squawk"
    command = [squawk, "--config", CONFIGURATION, "--reporter", "json", "--stdin-filepath", "x.sql"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    return {found["rule_name"] for found in json.loads(done.stdout or "[]")}
