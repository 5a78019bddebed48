"""Webhooks as a receiver sees them: real servers, the library's own check of the signature."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest
from standardwebhooks import Webhook, WebhookVerificationError
from structlog.testing import capture_logs

from jobs.addresses import parse_networks
from jobs.database import open_database
from jobs.errors import ConfigurationError
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.webhooks import Delivery
from producer.client import Client
from producer.webhooks.post import NeverDelivered, NotDelivered, post
from producer.webhooks.sender import RETRIES, WebhookSender, backoff
from producer.webhooks.signing import Signer, new_secret
from tests.jobs.factories import RESULT, Clock, claim, inversion, submit
from tests.pipeline import edict as start_edict
from tests.pipeline import environment_of, eventually
from tests.receivers import Receiver, receiver

HERE = parse_networks(["127.0.0.0/8"])
SECRET = new_secret()


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as there:
        yield there


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(sqlite_url: str, clock: Clock) -> Iterator[JobStore]:
    engine = open_database(sqlite_url)
    yield JobStore(engine, clock=clock)
    engine.dispose()


Send = Callable[..., None]


@pytest.fixture
def send(store: JobStore) -> Send:
    """Send all that is due, and wait until it is recorded."""

    def send_due(signer: Signer | None = None, allowed=HERE, seconds: float = 5.0) -> None:
        sender = WebhookSender(store, signer or Signer(SECRET), allowed, seconds=seconds)
        with ThreadPoolExecutor() as pool:
            sender.look(pool)

    return send_due


def ended(store: JobStore, url: str) -> UUID:
    """A job whose end is to be told."""
    [made] = store.submit([inversion()], force=True)
    store.take_due(1)
    job = claim(store, made.job_id)
    store.subscribe_to_jobs([job.job_id], url)
    store.finish(job, RESULT)
    return job.job_id


def only(store: JobStore) -> Delivery:
    [delivery] = store.deliveries()
    return delivery


def test_a_receiver_can_verify_what_it_is_told(
    store: JobStore, send: Send, there: Receiver
) -> None:
    job_id = ended(store, there.url)

    send()

    [message] = there.messages
    told = Webhook(SECRET).verify(message.body, message.headers)
    assert (told["type"], told["data"]["id"]) == ("job.succeeded", str(job_id))
    assert message.path == "/hook?token=of-the-receiver"
    assert message.headers["Host"] == f"127.0.0.1:{there.port}"
    assert message.headers["Content-Type"] == "application/json"
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(message.body, message.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(message.body.replace(b"succeeded", b"failed"), message.headers)
    assert (only(store).state, only(store).response_status) == ("delivered", 200)


def test_a_server_error_is_tried_again_under_the_same_id(
    store: JobStore, send: Send, there: Receiver, clock: Clock
) -> None:
    there.answers = [503, 500]
    ended(store, there.url)

    send()
    send()
    assert len(there.messages) == 1, "the second try is not due yet"
    assert (only(store).state, only(store).error) == ("pending", "it answered 503")
    for delay in RETRIES[:2]:
        clock.tick(delay * 1.2)
        send()

    assert (only(store).state, only(store).attempts) == ("delivered", 3)
    assert len({message.headers["webhook-id"] for message in there.messages}) == 1
    for message in there.messages:
        Webhook(SECRET).verify(message.body, message.headers)


def test_a_receiver_that_never_recovers_is_given_up_and_may_be_told_again(
    store: JobStore, send: Send, there: Receiver, clock: Clock
) -> None:
    there.answers = [500] * (len(RETRIES) + 1)
    ended(store, there.url)

    for delay in (0.0, *RETRIES):
        clock.tick(delay * 1.2)
        send()

    assert (only(store).state, only(store).attempts) == ("failed", len(RETRIES) + 1)
    clock.tick(1e6)
    send()
    assert len(there.messages) == len(RETRIES) + 1
    store.resend_failed()
    send()
    assert only(store).state == "delivered"


def test_a_receiver_that_is_gone_for_good_is_not_asked_again(
    store: JobStore, send: Send, there: Receiver
) -> None:
    there.answers = [410]
    ended(store, there.url)

    send()

    assert (only(store).state, only(store).response_status) == ("failed", 410)


def test_a_redirect_is_not_followed(store: JobStore, send: Send, there: Receiver) -> None:
    there.answers, there.location = [307], "http://169.254.169.254/latest/meta-data"
    ended(store, there.url)

    send()

    assert len(there.messages) == 1
    assert "redirects (307) to 'http://169.254.169.254/latest" in (only(store).error or "")


def names_of_this_machine(port: int) -> list[str]:
    names = ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"]
    return [f"http://{name}:{port}/" for name in names]


def test_no_name_of_this_machine_or_its_network_is_called(
    store: JobStore, send: Send, there: Receiver
) -> None:
    urls = [*names_of_this_machine(there.port), "http://10.0.0.1/", "http://169.254.169.254/"]
    for url in urls:
        ended(store, url)

    send(allowed=())

    assert there.messages == []
    assert [each.state for each in store.deliveries()] == ["failed"] * len(urls)
    assert all("not" in str(each.error) and "public" in str(each.error)
               for each in store.deliveries())  # fmt: skip


def test_a_name_is_called_at_the_address_that_was_checked(
    there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that gives another answer the second time gains nothing."""
    real, asked = socket.getaddrinfo, []

    def resolve(host: str, *rest: object, **options: object) -> list[object]:
        asked.append(host)
        # Without a name server of our own: this name is ours at the first question only.
        first = asked.count("hooks.example.org") == 1
        known = {"hooks.example.org": "127.0.0.1" if first else "10.0.0.1"}
        return real(known.get(host, host), *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    status = post(f"http://hooks.example.org:{there.port}/x", b"{}", {}, allowed=HERE)

    assert status == 200
    assert asked.count("hooks.example.org") == 1
    assert there.messages[0].headers["Host"] == f"hooks.example.org:{there.port}"
    with pytest.raises(NeverDelivered, match=r"resolves to 10\.0\.0\.1, which is not public"):
        post(f"http://hooks.example.org:{there.port}/x", b"{}", {}, allowed=HERE)


def listening() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(5)
    return listener


def test_a_receiver_that_hangs_is_left_in_time_and_delays_no_other(
    store: JobStore, send: Send, there: Receiver
) -> None:
    with listening() as silent:
        ended(store, f"http://127.0.0.1:{silent.getsockname()[1]}/")
        ended(store, there.url)
        start = time.monotonic()
        send(seconds=0.5)
        took = time.monotonic() - start

    assert 0.4 < took < 4
    states = {each.url: each.state for each in store.deliveries()}
    assert states.pop(there.url) == "delivered"
    assert list(states.values()) == ["pending"]
    assert "no answer within 0.5 s" in str(store.deliveries()[-1].error)


def test_a_receiver_that_gives_one_byte_at_a_time_is_left_in_time_too() -> None:
    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with closing(connection):
            for byte in b"HTTP/1.1 200 OK\r\n" + b"x" * 200:
                try:
                    connection.sendall(bytes([byte]))
                except OSError:
                    return
                time.sleep(0.1)

    with listening() as listener:
        thread = threading.Thread(target=drip, args=[listener])
        thread.start()
        start = time.monotonic()
        with pytest.raises(NotDelivered, match=r"no answer within 0\.5 s"):
            post(
                f"http://127.0.0.1:{listener.getsockname()[1]}/", b"", {}, allowed=HERE, seconds=0.5
            )
        assert time.monotonic() - start < 4
        thread.join()


@pytest.mark.parametrize("answer", [b"", b"rubbish\r\n\r\n", b"HTTP/1.1 999999 x\r\n\r\n"])
def test_what_is_no_answer_counts_as_none(answer: bytes) -> None:
    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with closing(connection):
            connection.recv(65_536)
            connection.sendall(answer)

    with listening() as listener:
        thread = threading.Thread(target=serve, args=[listener])
        thread.start()
        with pytest.raises(NotDelivered):
            post(f"http://127.0.0.1:{listener.getsockname()[1]}/", b"", {}, allowed=HERE)
        thread.join()


def test_an_encrypted_receiver_must_prove_its_name(there: Receiver) -> None:
    """This one speaks no TLS at all."""
    with pytest.raises(NotDelivered, match=r"SSL|EOF|reset"):
        post(f"https://127.0.0.1:{there.port}/", b"", {}, allowed=HERE, seconds=2)
    assert there.messages == []


def test_nobody_there_and_no_such_name_are_tried_again(store: JobStore, send: Send) -> None:
    with listening() as closed:
        port = closed.getsockname()[1]
    ended(store, f"http://127.0.0.1:{port}/")
    ended(store, "http://no-such-name.invalid/")

    send()

    assert [each.state for each in store.deliveries()] == ["pending"] * 2
    assert "has no address" in str(store.deliveries()[0].error)


def test_without_a_secret_the_row_says_what_to_do(store: JobStore, there: Receiver) -> None:
    ended(store, there.url)
    with ThreadPoolExecutor() as pool:
        WebhookSender(store, None, HERE).look(pool)

    assert there.messages == []
    assert "EDICT_WEBHOOK_SECRET is not set" in str(only(store).error)
    assert only(store).state == "pending"


@pytest.mark.parametrize("secret", ["hunter2", "whsec_", "whsec_c2hvcnQ=", "whsec_" + "A" * 100])
def test_a_secret_that_is_none_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(ConfigurationError, match="EDICT_WEBHOOK_SECRET is not 24 to 64") as refused:
        Signer(secret)
    assert "hunter2" not in str(refused.value)
    assert "c2hvcnQ" not in str(refused.value)


def test_logs_hold_neither_the_secret_nor_the_receivers_token(
    store: JobStore, send: Send, there: Receiver
) -> None:
    there.answers = [500]
    ended(store, there.url)
    ended(store, there.url)
    with capture_logs() as logs:
        send()

    assert {each["event"] for each in logs} >= {"webhook.delivered", "webhook.undelivered"}
    text = str(logs) + repr(Settings(webhook_secret=SECRET))
    assert SECRET not in text
    assert SECRET.removeprefix("whsec_") not in text
    assert "of-the-receiver" not in text


def test_tries_are_spread_over_about_a_day() -> None:
    assert 0.8 * RETRIES[0] <= backoff(1) <= 1.2 * RETRIES[0]
    assert 12 * 3_600 < sum(RETRIES) < 48 * 3_600


def test_the_client_subscribes_batches_to_the_url_of_the_settings(
    services: Settings, there: Receiver
) -> None:
    told = {"webhook_url": there.url, "webhook_allow": ("127.0.0.1",)}
    with Client(services.model_copy(update=told)) as client:
        batch = client.store.open_batch()
        [inside] = client.submit([inversion()], batch_id=batch.id)
        [outside] = client.submit([inversion(1)])
        client.store.cancel([inside.job_id, outside.job_id])
        client.store.tell_ended_batches()

        found = {(each.event, each.job_id, each.batch_id) for each in client.store.deliveries()}

    assert found == {
        ("batch.ended", None, batch.id),
        ("job.cancelled", outside.job_id, None),
    }


@pytest.mark.slow
def test_two_control_processes_tell_every_end_once_and_survive_a_receiver_that_hangs(
    client: Client, services: Settings, there: Receiver, tmp_path: Path
) -> None:
    secrets = {"EDICT_WEBHOOK_SECRET": SECRET, "EDICT_WEBHOOK_ALLOW": "127.0.0.1"}
    environment = environment_of(services) | secrets
    logs = [tmp_path / f"control-{number}.log" for number in range(2)]
    store = client.store
    with (
        listening() as silent,
        start_edict("control", environment=environment, log=logs[0]),
        start_edict("control", environment=environment, log=logs[1]),
    ):
        hanging = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        batch = store.open_batch("told")
        job_ids = submit(store, 20, batch_id=batch.id)
        store.subscribe_to_jobs(job_ids, there.url)
        store.subscribe_to_jobs(job_ids[:3], hanging)
        store.subscribe_to_batch(batch.id, there.url)
        eventually(lambda: all(job.state == "queued" for job in store.jobs_of(batch.id)))
        for each in store.claim(job_ids, "w", lease=60):
            store.finish(each, RESULT)
        eventually(lambda: len(there.messages) >= 21, seconds=30)
        # And the loop beside it still announces what is new.
        late = submit(store, 21)[-1]
        eventually(lambda: store.job(late).state == "queued", seconds=30)

    told = [Webhook(SECRET).verify(each.body, each.headers) for each in there.messages]
    assert sorted(each["type"] for each in told) == ["batch.ended"] + ["job.succeeded"] * 20
    assert len({each.headers["webhook-id"] for each in there.messages}) == 21
    written = "".join(path.read_text() for path in logs)
    assert "webhook.delivered" in written
    assert SECRET.removeprefix("whsec_") not in written
    assert "of-the-receiver" not in written
