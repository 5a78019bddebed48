"""The shipped database roles, and logins that have nothing but one of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from psycopg import sql

ROLES_FILE = Path(__file__).parents[2] / "deploy" / "postgres" / "roles.sql"
ROLES = ("edict_control", "edict_api", "edict_worker", "edict_scaler")


def grant(owner_url: str) -> None:
    """Run the shipped file, as `psql -f` does."""
    with psycopg.connect(libpq(owner_url), autocommit=True) as connection:
        connection.execute(ROLES_FILE.read_bytes())


@contextmanager
def login(owner_url: str, role: str) -> Iterator[str]:
    """The URL of a login that has this role in the database of `owner_url`, and no other."""
    name = f"test_{role}_{uuid4().hex}"
    with psycopg.connect(libpq(owner_url), autocommit=True) as owner:
        owner.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'theirs' IN ROLE {}").format(
                sql.Identifier(name), sql.Identifier(role)
            )
        )
    parts = urlsplit(owner_url)
    place = parts.netloc.rpartition("@")[2]
    yield parts._replace(netloc=f"{name}:theirs@{place}").geturl()
    with psycopg.connect(libpq(owner_url), autocommit=True) as owner:
        owner.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def libpq(url: str) -> str:
    """The URL as psycopg takes it."""
    return url.replace("+psycopg", "", 1)
