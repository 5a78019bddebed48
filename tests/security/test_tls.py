"""Redis and PostgreSQL over TLS: what is not signed by whom we trust is not spoken to."""

import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from kombu import pools
from sqlalchemy import text

from jobs.celery_app import check_broker, make_app
from jobs.database import check_database, open_database
from jobs.dispatch import dispatch, oldest_message, queue_length
from jobs.errors import ConfigurationError, ServiceUnavailable
from jobs.lanes import Lane
from jobs.messages import queue_name
from jobs.redis_url import redis_url as checked
from jobs.settings import Settings
from jobs.store import JobStore
from migrations import upgrade
from producer.api.rates import Rates
from tests.jobs.factories import submit
from tests.security.tls import Authority, TlsFront
from worker.express import Express

NAME = "localhost"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "theirs")


@pytest.fixture
def redis_front(redis_url: str, authority: Authority) -> Iterator[TlsFront]:
    with TlsFront(urlsplit(redis_url).port or 6379, authority.context(NAME)) as front:
        yield front
    pools.reset()


@pytest.fixture
def postgres_front(postgresql_url: str, authority: Authority) -> Iterator[TlsFront]:
    port = urlsplit(postgresql_url).port or 5432
    with TlsFront(port, authority.context(NAME), postgres=True) as front:
        yield front


def over_tls(url: str, front: TlsFront, query: str, host: str = NAME) -> str:
    """The same server, the same user, by the way of the front."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    scheme = parts.scheme.replace("redis", "rediss")
    netloc = f"{user}{at}{host}:{front.port}"
    return parts._replace(scheme=scheme, netloc=netloc, query=query).geturl()


def test_messages_go_from_a_producer_to_a_worker_over_tls(
    redis_url: str, redis_front: TlsFront, authority: Authority, sqlite_url: str
):
    # Given a broker that is reached over TLS only
    url = over_tls(redis_url, redis_front, f"ssl_ca_certs={authority.file}")
    app = make_app(Settings(redis_url=url))
    check_broker(app)
    store = JobStore(open_database(sqlite_url))
    [job_id] = submit(store, 1, priority=100)
    queue = queue_name("demo", Lane.INTERACTIVE)

    # When a job is announced, and a worker listens
    assert dispatch(store, app) == 1
    assert queue_length(app, queue) == 1
    assert oldest_message(app, queue) is not None
    came = threading.Event()
    seen: list[object] = []

    def run(job_ids: object) -> None:
        seen.append(job_ids)
        came.set()

    with Express(app, [queue], run, slots=1):
        assert came.wait(20)

    # Then it has the job, and nothing went another way
    assert seen == [(job_id,)]
    assert redis_front.passed >= 2
    app.close()


def test_the_apis_counting_goes_over_tls(
    redis_url: str, redis_front: TlsFront, authority: Authority
):
    url = over_tls(redis_url, redis_front, f"ssl_ca_certs={authority.file}")

    rates = Rates(lambda *_: None, checked(Settings(redis_url=url)))

    assert [rates._count("somebody", 7) for _ in range(2)] == [1, 2]
    rates._redis.close()


@pytest.mark.parametrize("query", ["", "ssl_ca_certs={stranger}"])
def test_a_broker_that_nobody_vouches_for_is_refused_with_the_remedy(
    redis_url: str, redis_front: TlsFront, stranger: Authority, query: str
):
    url = over_tls(redis_url, redis_front, query.format(stranger=stranger.file))
    app = make_app(Settings(redis_url=url))

    with pytest.raises(ServiceUnavailable, match="certificate verify failed") as refusal:
        check_broker(app)

    assert "ssl_ca_certs=/path/ca.pem" in str(refusal.value)
    assert str(urlsplit(redis_url).password) not in str(refusal.value)
    assert redis_front.passed == 0
    app.close()


def test_a_broker_with_somebody_elses_name_is_refused(
    redis_url: str, redis_front: TlsFront, authority: Authority
):
    query = f"ssl_ca_certs={authority.file}"
    app = make_app(Settings(redis_url=over_tls(redis_url, redis_front, query, host="127.0.0.1")))

    with pytest.raises(ServiceUnavailable, match="certificate verify failed"):
        check_broker(app)

    app.close()


def test_a_check_of_certificates_that_there_is_not_is_a_bad_setting():
    with pytest.raises(ConfigurationError, match="use one of required, optional, none"):
        make_app(Settings(redis_url="rediss://host/0?ssl_cert_reqs=maybe"))


def test_only_who_says_so_goes_without_a_check():
    assert checked(Settings(redis_url="rediss://host/0")).endswith("?ssl_cert_reqs=required")
    assert checked(Settings(redis_url="rediss://h/0?a=b")).endswith("?a=b&ssl_cert_reqs=required")
    for url in ("redis://host/0", "rediss://host/0?ssl_cert_reqs=none"):
        assert checked(Settings(redis_url=url)) == url


def test_tables_are_made_and_used_over_tls(
    postgresql_url: str, postgres_front: TlsFront, authority: Authority
):
    query = f"sslmode=verify-full&sslrootcert={authority.file}"
    url = over_tls(postgresql_url, postgres_front, query)

    upgrade(url)
    engine = open_database(url)
    check_database(engine)
    store = JobStore(engine)
    [job_id] = submit(store, 1)

    assert store.job(job_id).id == job_id
    with engine.connect() as connection:
        raw = connection.connection.dbapi_connection
        assert raw is not None
        assert raw.pgconn.ssl_in_use  # type: ignore[attr-defined]
        assert connection.scalar(text("SELECT count(*) FROM jobs")) == 1
    engine.dispose()
    assert postgres_front.passed >= 2


def test_a_database_that_nobody_vouches_for_is_refused_with_the_remedy(
    postgresql_url: str, postgres_front: TlsFront, stranger: Authority
):
    query = f"sslmode=verify-full&sslrootcert={stranger.file}"
    engine = open_database(over_tls(postgresql_url, postgres_front, query))

    with pytest.raises(ServiceUnavailable, match="certificate verify failed") as refusal:
        check_database(engine)

    assert "sslrootcert=/path/ca.pem" in str(refusal.value)
    assert postgres_front.passed == 0


def test_a_database_with_somebody_elses_name_is_refused_with_the_remedy(
    postgresql_url: str, postgres_front: TlsFront, authority: Authority
):
    query = f"sslmode=verify-full&sslrootcert={authority.file}"
    url = over_tls(postgresql_url, postgres_front, query, host="127.0.0.1")

    with pytest.raises(ServiceUnavailable, match="does not match host name") as refusal:
        check_database(open_database(url))

    assert "for the host's name" in str(refusal.value)


def test_a_server_without_tls_is_not_spoken_to_where_it_is_asked_for(postgresql_url: str):
    url = urlsplit(postgresql_url)._replace(query="sslmode=require").geturl()

    with pytest.raises(ServiceUnavailable, match="SSL"):
        check_database(open_database(url))
