"""Up and down on every database, and to the same shape as the declared tables."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, insert, inspect, select
from sqlalchemy.exc import IntegrityError

import migrations
from jobs.database import open_database
from jobs.ids import new_id
from jobs.store import JobStore
from jobs.store.base import utc_now
from jobs.tables import batch_jobs, batches, jobs, metadata, schedules


@pytest.fixture
def bare(bare_database_url: str) -> Iterator[Engine]:
    """A database without tables."""
    engine = open_database(bare_database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def url(bare_database_url: str) -> str:
    return bare_database_url


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names()) - {"alembic_version"}


def test_up_down_and_up_again(url: str, bare: Engine) -> None:
    assert migrations.current_revision(bare) is None

    migrations.upgrade(url)
    assert tables(bare) == set(metadata.tables)
    assert migrations.current_revision(bare) == migrations.head_revision()

    migrations.downgrade(url)
    assert tables(bare) == set()
    assert migrations.current_revision(bare) is None

    migrations.upgrade(url)
    assert tables(bare) == set(metadata.tables)


def test_upgrading_twice_changes_nothing(url: str, bare: Engine) -> None:
    migrations.upgrade(url)
    with bare.begin() as connection:
        connection.execute(insert(batches).values(id=new_id(), name="kept", created_at=utc_now()))

    migrations.upgrade(url)

    with bare.connect() as connection:
        assert [row.name for row in connection.execute(batches.select())] == ["kept"]


def test_a_migrated_database_has_the_declared_shape(url: str, bare: Engine) -> None:
    migrations.upgrade(url)

    with bare.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []


def described(engine: Engine) -> dict[str, object]:
    """What Alembic does not compare: constraints, the order of an index, what a deletion does."""
    inspector = inspect(engine)
    return {
        table: (
            sorted((str(each["name"]), str(each["sqltext"])) for each in
                   inspector.get_check_constraints(table)),
            sorted(str(each) for each in inspector.get_indexes(table)),
            sorted(str(each) for each in inspector.get_unique_constraints(table)),
            sorted(str(each) for each in inspector.get_foreign_keys(table)),
            inspector.get_pk_constraint(table),
        )
        for table in metadata.tables
    }  # fmt: skip


def test_a_migrated_database_has_the_declared_constraints(url: str, bare: Engine) -> None:
    migrations.upgrade(url)
    migrated = described(bare)
    migrations.downgrade(url)

    metadata.create_all(bare)

    assert migrated == described(bare)
    assert "ck_jobs_state" in str(migrated["jobs"])


def test_a_state_that_does_not_exist_is_refused_by_the_database(url: str, bare: Engine) -> None:
    migrations.upgrade(url)
    job = {
        "id": new_id(),
        "kind": "inversion",
        "spec": {},
        "identity": "x",
        "inversion_digest": "x",
        "model": "demo",
        "priority": 0,
        "state": "lost",
        "created_at": utc_now(),
        "due_at": utc_now(),
    }

    with pytest.raises(IntegrityError, match="ck_jobs_state"), bare.begin() as connection:
        connection.execute(insert(jobs).values(job))


def test_what_is_there_is_counted_and_schedules_call_a_path_a_path(url: str, bare: Engine) -> None:
    # Given a batch with a failed job, and a schedule, from before there were tallies
    migrations.upgrade(url, "0007")
    batch, job, now = new_id(), new_id(), utc_now()
    row = {"id": job, "kind": "inversion", "spec": {}, "identity": "x", "inversion_digest": "x",
           "model": "demo", "priority": 0, "state": "failed", "error_code": "bad",
           "created_at": now, "due_at": now}  # fmt: skip
    template = {"base": "{name} {{name}} {{{stem}}}", "edits": ["{caption}, {stem}"]}
    schedule = {"id": new_id(), "name": "s", "cron": "0 2 * * *", "timezone": "UTC",
                "source": "/in", "template": template, "reasons": [], "catch_up": "once",
                "overlap": "queue", "created_at": now, "next_at": now}  # fmt: skip
    with bare.begin() as connection:
        connection.execute(insert(batches).values(id=batch, name="old", created_at=now))
        connection.execute(insert(jobs).values(row))
        connection.execute(insert(batch_jobs).values(batch_id=batch, job_id=job))
        connection.execute(insert(schedules).values(schedule))

    migrations.upgrade(url)

    store = JobStore(bare)
    assert store.failures_of(batch) == {"bad": 1}
    assert sum(store.counts(batch).values()) == 1
    with bare.connect() as connection:
        found = connection.execute(select(schedules.c.template)).scalar_one()
    assert found == {"base": "{path} {{name}} {{{name}}}", "edits": ["{caption}, {name}"]}


def test_processes_that_migrate_at_once_take_turns(url: str, bare: Engine) -> None:
    script = "import sys, migrations; sys.stdin.readline(); migrations.upgrade(sys.argv[1])"
    command = [sys.executable, "-W", "error", "-c", script, url]
    fleet = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [process.communicate("go\n", timeout=60)[1] for process in fleet]

    assert errors == [""] * 2
    assert [process.returncode for process in fleet] == [0] * 2
    assert tables(bare) == set(metadata.tables)
