"""Gives each process of the compose file a database login and a bucket key of its own.

It runs after `edict migrate`, at every start, as the owner of both: a password that changed in .env
and a table that is new are taken care of. It may run while everything else does. Where one of both
is only starting, it fails and is started again.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from jobs.s3 import make_client
from jobs.settings import Settings

DEPLOY = Path(__file__).resolve().parents[1]
PROCESSES = ("control", "api", "worker")
"""Each has a login and a key of this name, the role `edict_NAME` and the policy `s3/NAME.json`."""


def main() -> None:
    """Read the environment, and bring the database and the bucket into shape."""
    settings = Settings()
    passwords = {name: os.environ[f"{name.upper()}_PASSWORD"] for name in PROCESSES}
    give_logins(settings.database_url.get_secret_value(), passwords)
    give_bucket(settings)


def give_logins(owner_url: str, passwords: Mapping[str, str]) -> None:
    """Grant the roles, and let a login of each name have the role of its process and no other."""
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute((DEPLOY / "postgres" / "roles.sql").read_bytes())
        for name, password in passwords.items():
            login = sql.Identifier(name)
            if owner.execute("SELECT FROM pg_roles WHERE rolname = %s", [name]).rowcount == 0:
                owner.execute(sql.SQL("CREATE ROLE {} LOGIN").format(login))
            owner.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(login, sql.Literal(password)))
            role = sql.Identifier(f"edict_{name}")
            owner.execute(sql.SQL("GRANT {} TO {}").format(role, login))


def give_bucket(settings: Settings) -> None:
    """Make the bucket unless it is there, and say who may do what in it."""
    client = make_client(settings)
    # SeaweedFS has no other owners.
    with suppress(client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou):
        client.create_bucket(Bucket=settings.s3_bucket)
    policy = json.dumps(bucket_policy(settings.s3_bucket))
    client.put_bucket_policy(Bucket=settings.s3_bucket, Policy=policy)


def bucket_policy(bucket: str) -> dict[str, Any]:
    """The shipped policies as one of the bucket, where each statement names whom it is about."""
    statements = [
        {
            **statement,
            "Sid": f"{name}{statement['Sid']}",
            "Principal": {"AWS": f"arn:aws:iam::000000000000:user/{name}"},
        }
        for name in PROCESSES
        for statement in json.loads(_shipped(name, bucket))["Statement"]
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def _shipped(name: str, bucket: str) -> str:
    text = (DEPLOY / "s3" / f"{name}.json").read_text()
    return text.replace(":::edict", f":::{bucket}")


if __name__ == "__main__":
    main()
