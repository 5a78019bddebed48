"""The SQL that revisions really send to PostgreSQL, transactions included, and what squawk says.

Alembic's offline mode could not render those that look at data first.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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


class _Recorder:
    """Every statement of this process, and on which connection it was made."""

    def __init__(self) -> None:
        self.statements: list[tuple[int, str]] = []

    def begin(self, connection: Connection) -> None:
        self._bound(connection, "BEGIN")

    def commit(self, connection: Connection) -> None:
        self._bound(connection, "COMMIT")

    def before_cursor_execute(
        self, connection: Connection, cursor: Any, statement: str, values: Any, *_: Any
    ) -> None:
        if values:
            statement = psycopg.ClientCursor(cursor.connection).mogrify(statement, values)
        self._note(connection, statement)

    def _bound(self, connection: Connection, statement: str) -> None:
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            self._note(connection, statement)

    def _note(self, connection: Connection, statement: str) -> None:
        self.statements.append((id(connection.connection.dbapi_connection), statement))


@contextmanager
def _recorded() -> Iterator[list[tuple[int, str]]]:
    recorder = _Recorder()
    with ExitStack() as stack:
        for name in ("begin", "commit", "before_cursor_execute"):
            listener = getattr(recorder, name)
            event.listen(Engine, name, listener)
            stack.callback(event.remove, Engine, name, listener)
        yield recorder.statements


def complaints(script: str) -> set[str]:
    """The rules of `squawk.toml` that an SQL script breaks."""
    squawk = shutil.which("squawk", path=str(Path(sys.executable).parent)) or "squawk"
    command = [squawk, "--config", CONFIGURATION, "--reporter", "json", "--stdin-filepath", "x.sql"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    return {found["rule_name"] for found in json.loads(done.stdout or "[]")}
