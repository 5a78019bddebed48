"""Ends are written down for those that want to know of them, once each, whatever races."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import Engine

from jobs.addresses import may_be_called, parse_address, parse_networks
from jobs.errors import InvalidInput, LeaseLost
from jobs.states import State
from jobs.store import JobStore
from jobs.webhooks import Delivery, DeliveryState, check_webhook_url
from tests.jobs.factories import LEASE, RESULT, Clock, claim, inversion, queue, submit

URL = "https://example.org/hook?token=1"
OTHER = "https://example.org/other"


def events(store: JobStore) -> list[str]:
    return [each.event for each in reversed(store.deliveries())]


def test_the_end_of_a_job_is_written_with_what_came_of_it(store: JobStore, clock: Clock) -> None:
    job_ids = queue(store, 3)
    store.subscribe_to_jobs(job_ids, URL)
    claims = store.claim(job_ids, "w1", lease=LEASE)

    store.finish(claims[0], RESULT)
    store.fail(claims[1], "bad_image", "no picture")
    store.cancel([claims[2].job_id])

    assert events(store) == ["job.succeeded", "job.failed", "job.cancelled"]
    cancelled, failed, succeeded = store.deliveries()
    assert [each.url for each in (succeeded, failed, cancelled)] == [URL] * 3
    data = succeeded.payload["data"]
    assert data["id"] == str(claims[0].job_id)
    assert data["exact"] is True
    assert data["outputs"]["image"]["key"] == "results/a.png"
    assert failed.payload["type"] == "job.failed"
    assert failed.payload["data"]["error"] == {"code": "bad_image", "message": "no picture"}
    assert succeeded.state == "pending"
    assert succeeded.due_at == clock.now


def test_nothing_is_written_for_jobs_that_nobody_asks_about_or_that_go_on(store: JobStore) -> None:
    asked, other = queue(store, 2)
    store.subscribe_to_jobs([asked], URL)
    store.finish(claim(store, other), RESULT)
    running = claim(store, asked)
    store.postpone(running, "away", "later", delay=0)

    assert store.deliveries() == []


def test_a_late_finisher_tells_nothing(store: JobStore, clock: Clock) -> None:
    job_ids = queue(store)
    store.subscribe_to_jobs(job_ids, URL)
    late = claim(store, job_ids[0])
    clock.tick(LEASE + 1)
    store.expire_leases()

    with pytest.raises(LeaseLost):
        store.finish(late, RESULT)

    assert store.deliveries() == []


def test_a_job_that_kills_its_workers_is_told_too(store: JobStore, clock: Clock) -> None:
    job_ids = queue(store)
    store.subscribe_to_jobs(job_ids, URL)
    for _ in range(3):
        store.take_due(9)
        claim(store, job_ids[0])
        clock.tick(LEASE + 1)
        store.expire_leases()

    assert events(store) == ["job.failed"]
    assert store.deliveries()[0].payload["data"]["error"]["code"] == "worker_lost"


def test_who_asks_about_a_job_that_has_ended_is_told_at_once(store: JobStore) -> None:
    ended = claim(store)
    store.finish(ended, RESULT)

    store.subscribe_to_jobs([ended.job_id], URL)

    assert events(store) == ["job.succeeded"]


def test_each_receiver_is_told_once_and_of_each_end(store: JobStore) -> None:
    job_ids = queue(store)
    for url in (URL, OTHER, URL):
        store.subscribe_to_jobs(job_ids, url)
    store.fail(claim(store, job_ids[0]), "x", "x")
    assert {each.url for each in store.deliveries()} == {URL, OTHER}

    store.retry(job_ids)
    store.take_due(9)
    store.finish(claim(store, job_ids[0]), RESULT)

    assert sorted(events(store)) == ["job.failed"] * 2 + ["job.succeeded"] * 2


def test_a_batch_is_told_when_its_last_job_has_ended(store: JobStore) -> None:
    batch = store.open_batch("fruit")
    job_ids = queue(store, 3, batch_id=batch.id)
    store.subscribe_to_batch(batch.id, URL)
    claims = store.claim(job_ids, "w1", lease=LEASE)
    store.finish(claims[0], RESULT)
    store.fail(claims[1], "x", "x")
    assert store.tell_ended_batches() == 0

    store.cancel([claims[2].job_id])

    assert store.tell_ended_batches() == 1
    assert store.tell_ended_batches() == 0
    [told] = store.deliveries()
    assert (told.event, told.batch_id, told.job_id) == ("batch.ended", batch.id, None)
    assert told.payload["data"] == {
        "id": str(batch.id),
        "name": "fruit",
        "jobs": {"succeeded": 1, "failed": 1, "cancelled": 1},
    }


def test_a_batch_that_ends_again_is_told_again(store: JobStore) -> None:
    batch = store.open_batch()
    store.subscribe_to_batch(batch.id, URL)
    assert store.tell_ended_batches() == 0, "it has no jobs yet"
    job_ids = queue(store, 2, batch_id=batch.id)
    for job_id in job_ids:
        store.fail(claim(store, job_id), "x", "x")
    assert store.tell_ended_batches() == 1

    store.retry(job_ids)
    store.take_due(9)
    store.finish(claim(store, job_ids[0]), RESULT)
    assert store.tell_ended_batches() == 0
    store.finish(claim(store, job_ids[1]), RESULT)

    assert store.tell_ended_batches() == 1
    assert events(store) == ["batch.ended"] * 2


def test_jobs_that_end_at_once_on_many_workers_end_their_batch_once(store: JobStore) -> None:
    batch = store.open_batch()
    job_ids = queue(store, 24, batch_id=batch.id)
    store.subscribe_to_batch(batch.id, URL)
    store.subscribe_to_jobs(job_ids, URL)
    claims = store.claim(job_ids, "w1", lease=LEASE)
    start = Barrier(6)

    def end(number: int) -> int:
        start.wait()
        told = 0
        for each in claims[number::6]:
            store.finish(each, RESULT)
            told += store.tell_ended_batches()
        return told

    with ThreadPoolExecutor(6) as pool:
        told = sum(pool.map(end, range(6))) + store.tell_ended_batches()

    assert told == 1
    assert sorted(events(store)) == ["batch.ended"] + ["job.succeeded"] * 24


def test_a_job_that_ends_while_somebody_subscribes_is_told_once(store: JobStore) -> None:
    job_ids = queue(store, 20)
    claims = store.claim(job_ids, "w1", lease=LEASE)
    start = Barrier(2)

    def end() -> None:
        start.wait()
        for each in claims:
            store.finish(each, RESULT)

    def subscribe() -> None:
        start.wait()
        for job_id in job_ids:
            store.subscribe_to_jobs([job_id], URL)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(end), pool.submit(subscribe)]:
            done.result()

    assert sorted(each.job_id for each in store.deliveries()) == job_ids


def test_what_is_deleted_takes_its_webhooks_along(store: JobStore, engine: Engine) -> None:
    ended = claim(store)
    store.subscribe_to_jobs([ended.job_id], URL)
    store.finish(ended, RESULT)

    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM jobs")

    assert store.deliveries() == []


@pytest.fixture
def delivery(store: JobStore) -> Delivery:
    """One that was taken to be sent."""
    ended = claim(store)
    store.subscribe_to_jobs([ended.job_id], URL)
    store.finish(ended, RESULT)
    [taken] = store.take_deliveries(9, patience=60)
    return taken


def test_a_delivery_is_taken_by_one_sender_and_again_after_its_patience(
    store: JobStore, clock: Clock, delivery: Delivery
) -> None:
    assert delivery.attempts == 1
    assert store.take_deliveries(9, patience=60) == []

    clock.tick(61)

    [again] = store.take_deliveries(9, patience=60)
    assert (again.id, again.attempts) == (delivery.id, 2)
    assert not store.record_delivered(delivery, 200), "the first sender is too late"
    assert store.record_delivered(again, 200)


def test_many_senders_take_different_deliveries(store: JobStore) -> None:
    job_ids = submit(store, 40)
    store.subscribe_to_jobs(job_ids, URL)
    store.cancel(job_ids)
    start = Barrier(4)

    def take(_: int) -> list[Delivery]:
        start.wait()
        return [*store.take_deliveries(7, patience=60), *store.take_deliveries(7, patience=60)]

    with ThreadPoolExecutor(4) as pool:
        taken = [each.id for some in pool.map(take, range(4)) for each in some]

    assert len(taken) == len(set(taken)) == 40


def test_what_was_not_taken_waits_and_is_given_up_in_the_end(
    store: JobStore, clock: Clock, delivery: Delivery
) -> None:
    store.record_undelivered(delivery, "it answered 503", status=503, retry_in=30)
    assert store.take_deliveries(9, patience=60) == []
    clock.tick(30)
    [again] = store.take_deliveries(9, patience=60)
    store.record_undelivered(again, "it answered 503", status=503, retry_in=None)

    [shown] = store.deliveries(states=[DeliveryState.FAILED])
    assert (shown.attempts, shown.response_status) == (2, 503)
    clock.tick(1e6)
    assert store.take_deliveries(9, patience=60) == []

    assert store.resend_failed() == 1
    [fresh] = store.take_deliveries(9, patience=60)
    assert (fresh.id, fresh.attempts) == (delivery.id, 1)


def test_one_that_was_delivered_may_be_sent_again(store: JobStore, delivery: Delivery) -> None:
    store.record_delivered(delivery, 204)
    assert store.resend_failed() == 0

    assert store.resend([delivery.id]) == 1

    assert store.take_deliveries(9, patience=60) == [
        replace(delivery, response_status=204, due_at=store.deliveries()[0].due_at)
    ]


def test_deliveries_are_found_by_job_and_by_batch(store: JobStore) -> None:
    batch = store.open_batch()
    [inside] = submit(store, 1, batch_id=batch.id)
    [outside] = [each.job_id for each in store.submit([inversion(7)])]
    store.subscribe_to_batch(batch.id, OTHER)
    store.subscribe_to_jobs([inside, outside], URL)
    store.cancel([inside, outside])
    store.tell_ended_batches()

    def found(**which: Any) -> set[str]:
        return {each.event for each in store.deliveries(**which)}

    assert found(batch_id=batch.id) == {"batch.ended", "job.cancelled"}
    assert [each.job_id for each in store.deliveries(job_id=outside)] == [outside]
    assert len(store.deliveries()) == 3
    assert len(store.deliveries(limit=2)) == 2
    assert store.job(outside).state == State.CANCELLED


REFUSED = [
    "127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.9.9", "169.254.169.254", "0.0.0.0",
    "100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fd00::1",
    "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "2002:7f00:1::", "ff02::1",
    # What holds an IPv4 address in other ways, or was once for one's own site.
    "::127.0.0.1", "::169.254.169.254", "::ffff:0:127.0.0.1", "64:ff9b:1::7f00:1", "fec0::1",
    "5f00::1", "192.0.0.8", "192.88.99.1", "198.18.0.1", "240.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_addresses_that_only_we_can_reach_are_not_called(text: str) -> None:
    assert not may_be_called(parse_address(text))


@pytest.mark.parametrize("text", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_public_addresses_are_called(text: str) -> None:
    assert may_be_called(parse_address(text))


def test_networks_that_are_allowed_are_called() -> None:
    allowed = parse_networks(["10.1.0.0/16", "127.0.0.1"])

    called = [text for text in REFUSED if may_be_called(parse_address(text), allowed)]
    assert called == ["127.0.0.1", "10.1.2.3", "2002:7f00:1::"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "printable ASCII"),
        ("https://a b/", "printable ASCII"),
        ("https://exämple.org/", "printable ASCII"),
        ("https://x/" + "y" * 2_048, "2048"),
        ("ftp://example.org/", "https://host/path"),
        ("example.org/hook", "https://host/path"),
        ("https:///hook", "https://host/path"),
        ("https://example.org:99999/", "Port out of range"),
        ("https://[::1/", "Invalid IPv6"),
        ("http://127.0.0.1:8000/", "127.0.0.1 is not a public address.*EDICT_WEBHOOK_ALLOW"),
        ("http://[::ffff:10.0.0.1]/", "not a public address"),
        ("https://me:hunter2@example.org/", "holds a user or a password"),
    ],
)
def test_urls_that_are_none_are_refused(url: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as refused:
        check_webhook_url(url)
    assert "hunter2" not in str(refused.value)


def test_urls_of_public_names_and_allowed_addresses_are_taken() -> None:
    assert check_webhook_url(URL).hostname == "example.org"
    assert check_webhook_url("http://127.0.0.1/", parse_networks(["127.0.0.0/8"])).port is None
