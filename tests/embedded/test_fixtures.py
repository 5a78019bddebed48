"""The tests' own servers: they end with pytest, and a missing one is never overlooked in CI."""

import signal
from pathlib import Path

import psycopg
import pytest
import sqlalchemy
from redis import Redis

from tests.embedded.processes import eventually, owner, read_line, using
from tests.servers import PostgresServer, redis_server, unavailable

START_AND_WAIT = """
import sys, time
from pathlib import Path
from tests.servers import postgres_server
with postgres_server(Path(sys.argv[1])):
    print("up", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_postgresql_ends_with_the_process_that_started_it(
    tmp_path: Path, end: signal.Signals
) -> None:
    with owner(START_AND_WAIT, tmp_path / "postgres") as parent:
        assert read_line(parent) == "up"
        assert using(tmp_path / "postgres")
        parent.send_signal(end)
        parent.wait()
        assert eventually(lambda: using(tmp_path / "postgres") == [])


def test_a_database_is_migrated_and_empty(database_url: str) -> None:
    engine = sqlalchemy.create_engine(database_url)
    with engine.connect() as connection:
        assert connection.scalar(sqlalchemy.text("SELECT count(*) FROM jobs")) == 0
    engine.dispose()


def test_a_database_is_dropped_even_under_a_client(postgres_server: PostgresServer) -> None:
    postgres_server.create("edict_dropped")
    url = postgres_server.url("edict_dropped").replace("+psycopg", "")
    with psycopg.connect(url) as left_open:
        postgres_server.drop("edict_dropped")
        with pytest.raises(psycopg.OperationalError):
            left_open.execute("SELECT 1")


@pytest.mark.parametrize("name", ["first", "second"])
def test_redis_is_empty_for_each_test(redis_url: str, name: str) -> None:
    with Redis.from_url(redis_url) as client:
        assert client.keys() == []
        client.set(name, "1")


def test_each_worker_has_a_redis_database_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDICT_TEST_REDIS_URL", "redis://:secret@redis.example:6379/3")
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw2")
    with redis_server(tmp_path) as url:
        assert url == "redis://:secret@redis.example:6379/5"


def test_a_missing_server_skips_on_a_laptop_and_fails_in_ci(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no wheel"):
        unavailable("no wheel")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no wheel"):
        unavailable("no wheel")
