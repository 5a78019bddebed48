"""A witness inside the database: a trigger that writes down every change of a job's state.

The last state of a row cannot show that a job ended twice; its history can. PostgreSQL only.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Engine, text

from jobs.database import open_database

_INSTALL = """
CREATE TABLE audit (
    number bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
    job uuid NOT NULL, before text, after text, token bigint, worker text
);
CREATE FUNCTION write_down() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO audit (job, before, token) VALUES (OLD.id, OLD.state, OLD.token);
    ELSIF TG_OP = 'INSERT' THEN
        INSERT INTO audit (job, after, token) VALUES (NEW.id, NEW.state, NEW.token);
    ELSIF (OLD.state, OLD.token, OLD.result::text)
        IS DISTINCT FROM (NEW.state, NEW.token, NEW.result::text)
    THEN
        INSERT INTO audit (job, before, after, token, worker)
        VALUES (NEW.id, OLD.state, NEW.state, NEW.token, NEW.worker);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER write_down AFTER INSERT OR UPDATE OR DELETE ON jobs
    FOR EACH ROW EXECUTE FUNCTION write_down();
"""


@dataclass(frozen=True)
class Change:
    """One change of a row: a state that it left (None: it was made) and the one it came to."""

    before: str | None
    after: str | None
    token: int
    worker: str | None


def install_audit(database_url: str) -> None:
    """Put the witness into a migrated database."""
    engine = open_database(database_url)
    with engine.begin() as connection:
        connection.execute(text(_INSTALL))
    engine.dispose()


def histories(engine: Engine, job_ids: Collection[UUID]) -> dict[UUID, list[Change]]:
    """What happened to each of these jobs, in order."""
    found: defaultdict[UUID, list[Change]] = defaultdict(list)
    statement = text("SELECT job, before, after, token, worker FROM audit ORDER BY number")
    with engine.connect() as connection:
        rows = connection.execute(statement).all()
    for row in rows:
        found[row.job].append(Change(row.before, row.after, row.token, row.worker))
    return {job_id: found[job_id] for job_id in job_ids}
