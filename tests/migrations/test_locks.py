"""Revisions run under a working fleet: what they lock, for how long, and what they take away.

A revision widens (expand): the version before must still work on its shape. What nobody uses any
more is taken away by a later one (contract), which says so in a constant `CONTRACTS = "why"`.
"""

import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from alembic.config import Config
from sqlalchemy import inspect

import migrations
from jobs.database import open_database
from jobs.errors import ServiceUnavailable
from migrations import run
from tests.migrations.statements import complaints, revisions, sent
from tests.servers import PostgresServer

CONTRACTING = {"ban-drop-column", "ban-drop-table"}
"""What a revision that says `CONTRACTS` may do."""

EXCEPTIONS = {
    # An index for workers' claims under another name; both from before the first release.
    "0002": {"require-concurrent-index-creation", "require-concurrent-index-deletion"},
    # Indexes of a column that is NULL everywhere; a revision could not leave its transaction then.
    "0009": {"require-concurrent-index-creation"},
}
"""What the first revisions did before there was this check; none is to be added."""

CONCURRENTLY = """
import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{before}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("colour", sa.Text))
    with op.get_context().autocommit_block():
        op.create_index("ix_jobs_colour", "jobs", ["colour"], postgresql_concurrently=True)
"""


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[str]:
    """The name of an empty database."""
    name = f"edict_locks_{uuid4().hex}"
    postgres_server.create(name)
    yield name
    postgres_server.drop(name)


@pytest.fixture
def url(postgres_server: PostgresServer, database: str) -> str:
    return postgres_server.url(database)


@pytest.fixture
def plain_url(url: str) -> str:
    """For psycopg."""
    return url.replace("+psycopg", "")


@pytest.fixture
def one_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A revision after the newest, which builds an index without keeping anybody from the table."""
    newest = str(migrations.head_revision())
    (tmp_path / "9999_index.py").write_text(CONCURRENTLY.format(before=newest))
    plain = run._config

    def config() -> Config:
        made = plain()
        shipped = Path(migrations.__file__).parent / "versions"
        made.set_main_option("version_locations", f"{shipped}{os.pathsep}{tmp_path}")
        return made

    monkeypatch.setattr(run, "_config", config)


def columns(url: str) -> dict[tuple[str, str], tuple[str, bool]]:
    """Every column with its type, and whether an INSERT that leaves it out is refused."""
    engine = open_database(url)
    try:
        inspector = inspect(engine)
        return {
            (table, column["name"]): (
                str(column["type"]),
                not column["nullable"] and column["default"] is None,
            )
            for table in inspector.get_table_names()
            for column in inspector.get_columns(table)
        }
    finally:
        engine.dispose()


def contracts(revision: str) -> bool:
    [script] = (Path(migrations.__file__).parent / "versions").glob(f"{revision}_*.py")
    return hasattr(import_module(f"migrations.versions.{script.stem}"), "CONTRACTS")


def test_no_revision_keeps_workers_waiting(url: str) -> None:
    found = {revision: complaints(sent(url, revision)) for revision in revisions()}

    broken = {
        revision: rules - (CONTRACTING if contracts(revision) else set())
        for revision, rules in found.items()
    }
    assert {revision: rules for revision, rules in broken.items() if rules} == EXCEPTIONS


def test_every_revision_leaves_what_the_version_before_uses(url: str) -> None:
    before: dict[tuple[str, str], tuple[str, bool]] = {}
    for revision in revisions():
        migrations.upgrade(url, revision)
        after = columns(url)
        if not contracts(revision):
            assert {name: after.get(name) for name in before} == before, revision
            tables = {table for table, _ in before}
            demanded = {name for name in after.keys() - before.keys() if after[name][1]}
            assert not {name for name in demanded if name[0] in tables}, revision
        before = after
    assert ("jobs", "state") in before


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("ALTER TABLE jobs ADD COLUMN colour text NOT NULL", "adding-required-field"),
        ("ALTER TABLE jobs ALTER COLUMN model SET NOT NULL", "adding-not-nullable-field"),
        ("ALTER TABLE jobs ALTER COLUMN priority TYPE bigint", "changing-column-type"),
        ("ALTER TABLE jobs DROP COLUMN model", "ban-drop-column"),
        ("ALTER TABLE jobs RENAME COLUMN model TO name", "renaming-column"),
        ("ALTER TABLE jobs RENAME TO tasks", "renaming-table"),
        ("DROP TABLE jobs", "ban-drop-table"),
        ("CREATE INDEX ix ON jobs (model)", "require-concurrent-index-creation"),
        ("DROP INDEX ix", "require-concurrent-index-deletion"),
        ("ALTER TABLE jobs ADD CHECK (priority > 0)", "constraint-missing-not-valid"),
        (
            "ALTER TABLE jobs ADD FOREIGN KEY (worker) REFERENCES workers (name)",
            "adding-foreign-key-constraint",
        ),
    ],
)
def test_a_statement_that_stops_workers_is_seen(statement: str, rule: str) -> None:
    timeout = "SET LOCAL lock_timeout = '3s'"
    assert rule in complaints(f"BEGIN; {timeout}; {statement}; COMMIT;")


def test_a_statement_that_would_wait_for_ever_is_seen() -> None:
    column = "ALTER TABLE jobs ADD COLUMN colour text"
    assert complaints(f"BEGIN; {column}; COMMIT;") == {"require-lock-timeout"}
    assert not complaints(f"BEGIN; SET LOCAL lock_timeout = '3s'; {column}; COMMIT;")


def test_a_table_in_use_is_waited_for_briefly_and_the_migration_can_be_run_again(
    url: str, plain_url: str, database: str
) -> None:
    # Given a database one revision back, and somebody who reads a table for long
    *_, before, newest = revisions()
    migrations.upgrade(url, before)
    with psycopg.connect(plain_url) as dump:
        dump.execute("LOCK TABLE jobs IN ACCESS SHARE MODE")
        # When it is to be migrated
        with pytest.raises(ServiceUnavailable, match="run `edict migrate` again") as refused:
            migrations.upgrade(url)
        # Then that gives up, and says where
        assert f"/{database}: a table is in use for longer than the 3 s" in str(refused.value)
        assert revision_of(url) == before
        # And keeps nobody waiting
        with psycopg.connect(plain_url, options="-c lock_timeout=100ms") as worker:
            worker.execute("UPDATE jobs SET priority = 0")

    migrations.upgrade(url)

    assert revision_of(url) == newest


def test_an_index_is_built_while_others_write(one_more: None, url: str, plain_url: str) -> None:
    script = sent(url, "head")

    # The column is committed before the index is begun, outside of any transaction.
    assert "COMMIT;\nCREATE INDEX CONCURRENTLY ix_jobs_colour ON jobs (colour);\nBEGIN" in script
    assert not complaints(script[script.index("ALTER TABLE jobs ADD COLUMN colour") - 40 :])
    with psycopg.connect(plain_url) as connection:
        valid = connection.execute(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_jobs_colour'::regclass"
        ).fetchone()
    assert valid == (True,)
    assert revision_of(url) == "9999"


def revision_of(url: str) -> str | None:
    engine = open_database(url)
    try:
        return migrations.current_revision(engine)
    finally:
        engine.dispose()
