"""Tallies of every batch's jobs, kept by triggers, and quality gates.

What is counted is a membership: its batch, its job's state, and a detail: the error code of what
failed, or `flagged`. Triggers see every change, whoever makes it. On PostgreSQL each statement adds
rows of changes and touches none that is there, so that no two ends ever wait for each other; the
control process folds them together. SQLite has one writer: it counts in place.

The prompts of schedules call an image's path `{path}` from now on, as those of manifests do.
"""

import re
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

DETAIL = (
    "CASE WHEN {job}.state = 'failed' THEN coalesce({job}.error_code, '') "
    "WHEN {job}.state = 'succeeded' AND {member}.flagged THEN 'flagged' ELSE '' END"
)


def detail(job: str, member: str) -> str:
    """The third part of what is counted."""
    return DETAIL.format(job=job, member=member)


def parts(rows: str, source: str, sign: str) -> str:
    """Memberships as changes of tallies; `rows` are jobs by their name, or `j`."""
    return (
        f"SELECT m.batch_id, {rows}.state, {detail(rows, 'm')} AS detail, {sign} AS change "  # noqa: S608
        f"FROM {source}"
    )


def added(changes: str) -> str:
    """Add the sums of changes as rows of their own."""
    return f"""
    INSERT INTO batch_tallies (batch_id, state, detail, shard, number)
    SELECT batch_id, state, detail, nextval('batch_tallies_shard'), change FROM (
        SELECT batch_id, state, detail, sum(change) AS change FROM ({changes}) AS every
        GROUP BY batch_id, state, detail HAVING sum(change) <> 0
    ) AS summed;
    """  # noqa: S608


# By index, always: a plan made while the tables were small would be kept while they grow.
SETTINGS = "SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off"
MEMBERS = "JOIN jobs j ON j.id = m.job_id"
# A job that others see may change meanwhile: whoever changes it waits, or is waited for.
LOCK = (
    "PERFORM 1 FROM jobs WHERE id IN (SELECT job_id FROM rows_after) "
    "AND xmin <> pg_current_xact_id()::xid ORDER BY id FOR SHARE;"
)
POSTGRESQL_FUNCTIONS = {
    "tally_changed_jobs": added(
        parts("j", "rows_before j JOIN batch_jobs m ON m.job_id = j.id", "-1")
        + " UNION ALL "
        + parts("j", "rows_after j JOIN batch_jobs m ON m.job_id = j.id", "1")
    )
    + "RETURN NULL;",
    "tally_deleted_job": added(
        f"SELECT m.batch_id, OLD.state, {detail('OLD', 'm')} AS detail, -1 AS change "  # noqa: S608
        "FROM batch_jobs m WHERE m.job_id = OLD.id"
    )
    + "RETURN OLD;",
    "tally_new_members": LOCK + added(parts("j", f"rows_after m {MEMBERS}", "1")) + "RETURN NULL;",
    "tally_changed_members": added(
        parts("j", f"rows_before m {MEMBERS}", "-1")
        + " UNION ALL "
        + parts("j", f"rows_after m {MEMBERS}", "1")
    )
    + "RETURN NULL;",
    # A job that was deleted is not there to be joined, and was counted by then; the tallies of a
    # batch that was deleted are gone by then.
    "tally_lost_members": added(
        parts("j", f"rows_before m {MEMBERS} JOIN batches b ON b.id = m.batch_id", "-1")
    )
    + "RETURN NULL;",
    "forget_tallies": "DELETE FROM batch_tallies WHERE batch_id = OLD.id; RETURN NULL;",
}
BOTH = "REFERENCING OLD TABLE AS rows_before NEW TABLE AS rows_after FOR EACH STATEMENT"
POSTGRESQL_TRIGGERS = {
    "tally_changed_jobs": f"AFTER UPDATE ON jobs {BOTH}",
    "tally_deleted_job": "BEFORE DELETE ON jobs FOR EACH ROW",
    "tally_new_members": "AFTER INSERT ON batch_jobs REFERENCING NEW TABLE AS rows_after "
    "FOR EACH STATEMENT",
    "tally_changed_members": f"AFTER UPDATE ON batch_jobs {BOTH}",
    "tally_lost_members": "AFTER DELETE ON batch_jobs REFERENCING OLD TABLE AS rows_before "
    "FOR EACH STATEMENT",
    "forget_tallies": "AFTER DELETE ON batches FOR EACH ROW",
}


def counted(changes: str) -> str:
    """Count changes in place."""
    return f"""
    INSERT INTO batch_tallies (batch_id, state, detail, shard, number)
    SELECT batch_id, state, detail, 0, change FROM ({changes}) WHERE true
    ON CONFLICT (batch_id, state, detail, shard) DO UPDATE SET number = number + excluded.number;
    """  # noqa: S608


def of_row(row: str, sign: str) -> str:
    """The memberships of a job as changes of tallies."""
    return counted(
        f"SELECT m.batch_id, {row}.state, {detail(row, 'm')} AS detail, {sign} AS change "  # noqa: S608
        f"FROM batch_jobs m WHERE m.job_id = {row}.id"
    )


def of_member(row: str, sign: str) -> str:
    """A membership as a change of a tally."""
    return counted(
        f"SELECT {row}.batch_id, j.state, {detail('j', row)} AS detail, {sign} AS change "  # noqa: S608
        f"FROM jobs j WHERE j.id = {row}.job_id"
    )


SQLITE_TRIGGERS = {
    "tally_changed_jobs": (
        "AFTER UPDATE OF state, error_code ON jobs FOR EACH ROW WHEN OLD.state <> NEW.state "
        "OR OLD.error_code IS NOT NEW.error_code",
        of_row("OLD", "-1") + of_row("NEW", "1"),
    ),
    "tally_deleted_job": ("BEFORE DELETE ON jobs FOR EACH ROW", of_row("OLD", "-1")),
    "tally_new_members": ("AFTER INSERT ON batch_jobs FOR EACH ROW", of_member("NEW", "1")),
    "tally_changed_members": (
        "AFTER UPDATE OF flagged ON batch_jobs FOR EACH ROW WHEN OLD.flagged <> NEW.flagged",
        of_member("OLD", "-1") + of_member("NEW", "1"),
    ),
    "tally_lost_members": ("AFTER DELETE ON batch_jobs FOR EACH ROW", of_member("OLD", "-1")),
    "forget_tallies": (
        "AFTER DELETE ON batches FOR EACH ROW",
        "DELETE FROM batch_tallies WHERE batch_id = OLD.id;",
    ),
}


SCHEDULES = sa.table("schedules", sa.column("id", sa.Uuid), sa.column("template", sa.JSON))


def rename_variables(names: Mapping[str, str]) -> None:
    """Have the prompts of schedules call things as manifests do."""
    # Two braces are one that is meant as such.
    variable = re.compile(r"(?<!\{)((?:\{\{)*)\{(" + "|".join(names) + r")\}")

    def renamed(value: Any) -> Any:
        if isinstance(value, list):
            return [renamed(part) for part in value]
        if not isinstance(value, str):
            return value
        return variable.sub(lambda found: f"{found[1]}{{{names[found[2]]}}}", value)

    connection = op.get_bind()
    for row in connection.execute(sa.select(SCHEDULES)).all():
        changed = row.template | {
            name: renamed(row.template[name]) for name in ("base", "edits") if name in row.template
        }
        which = SCHEDULES.c.id == row.id
        connection.execute(sa.update(SCHEDULES).where(which).values(template=changed))


def upgrade() -> None:
    rename_variables({"name": "path", "stem": "name"})
    op.add_column("batches", sa.Column("gate", sa.JSON))
    op.add_column(
        "batch_jobs", sa.Column("flagged", sa.Boolean, nullable=False, server_default=sa.false())
    )
    op.create_table(
        "batch_tallies",
        sa.Column("batch_id", sa.Uuid, nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("detail", sa.String(50), nullable=False),
        sa.Column("shard", sa.BigInteger, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "state", "detail", "shard", name="pk_batch_tallies"),
    )
    op.create_index("ix_batch_tallies_shard", "batch_tallies", ["shard"])
    op.execute(
        "INSERT INTO batch_tallies (batch_id, state, detail, shard, number) "  # noqa: S608
        f"SELECT m.batch_id, j.state, {detail('j', 'm')}, 0, count(*) "
        f"FROM batch_jobs m {MEMBERS} GROUP BY 1, 2, 3"
    )
    if op.get_bind().dialect.name == "sqlite":
        for name, (when, what) in SQLITE_TRIGGERS.items():
            op.execute(f"CREATE TRIGGER {name} {when} BEGIN {what} END")
        return
    op.execute("CREATE SEQUENCE batch_tallies_shard")
    for name, body in POSTGRESQL_FUNCTIONS.items():
        op.execute(
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql {SETTINGS} "
            f"AS $body$ BEGIN {body} END $body$"
        )
    for name, when in POSTGRESQL_TRIGGERS.items():
        op.execute(f"CREATE TRIGGER {name} {when} EXECUTE FUNCTION {name}()")


def downgrade() -> None:
    rename_variables({"name": "stem", "path": "name"})
    if op.get_bind().dialect.name == "sqlite":
        for name in SQLITE_TRIGGERS:
            op.execute(f"DROP TRIGGER {name}")
    else:
        for name in POSTGRESQL_FUNCTIONS:
            op.execute(f"DROP FUNCTION {name} CASCADE")
        op.execute("DROP SEQUENCE batch_tallies_shard")
    op.drop_table("batch_tallies")
    with op.batch_alter_table("batch_jobs") as table:
        table.drop_column("flagged")
    with op.batch_alter_table("batches") as table:
        table.drop_column("gate")
