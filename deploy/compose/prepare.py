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
        for statement in _shipped(name, bucket) + (_not_more(bucket) if name == "api" else [])
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def _not_more(bucket: str) -> list[dict[str, Any]]:
    """What the API may not do, though SeaweedFS lets it write anywhere.

    It takes a form to upload from those only who have it: a policy can refuse one, not allow it.
    """
    ours = f"arn:aws:s3:::{bucket}"
    puts = [each for each in _shipped("api", bucket) if "s3:PutObject" in each["Action"]]
    places = [place for each in puts for place in each["Resource"]]
    return [
        _deny("ChangesToTheBucket", ["s3:Put*", "s3:Delete*"], Resource=[ours]),
        _deny("ChangesToObjects", ["s3:Delete*", "s3:PutObject?*"], Resource=[f"{ours}/*"]),
        _deny("OtherPlaces", ["s3:PutObject"], NotResource=places),
    ]


def _deny(what: str, actions: list[str], **where: list[str]) -> dict[str, Any]:
    return {"Sid": f"No{what}", "Effect": "Deny", "Action": actions, **where}


def _shipped(name: str, bucket: str) -> list[dict[str, Any]]:
    text = (DEPLOY / "s3" / f"{name}.json").read_text().replace(":::edict", f":::{bucket}")
    statements: list[dict[str, Any]] = json.loads(text)["Statement"]
    return statements


if __name__ == "__main__":
    main()
