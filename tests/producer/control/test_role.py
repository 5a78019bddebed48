"""Control's work, with no more than its own role in the database."""

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import text, update

from jobs.states import State
from jobs.store.base import utc_now
from jobs.tables import jobs
from producer.client import Client
from producer.control.chores import chores
from producer.control.expiry import LeaseExpiry
from producer.webhooks.sender import WebhookSender
from tests.jobs.factories import LEASE, submit
from tests.producer.test_prune import (
    test_a_source_goes_with_the_last_row_that_names_it as test_sources_are_pruned,
)
from tests.producer.test_prune import (
    test_old_results_go_and_young_ones_stay as test_results_are_pruned,
)
from tests.security import roles

__all__ = ["test_results_are_pruned", "test_sources_are_pruned"]


@pytest.fixture
def service_database(postgresql_url: str) -> Iterator[str]:
    """All that is done here is done by a login that is control's."""
    roles.grant(postgresql_url)
    with roles.login(postgresql_url, "edict_control") as url:
        yield url


def test_every_chore_of_control_is_within_its_role(client: Client):
    # Given a job of a worker that fell silent, one that waits, and somebody to be told
    store = client.store
    with store._engine.connect() as connection:
        assert connection.scalar(text("SELECT current_user")).startswith("test_edict_control")
    batch = store.open_batch("watched")
    store.subscribe_to_batch(batch.id, "https://example.org/hook")
    silent, waiting = submit(store, 2, batch_id=batch.id)
    store.take_due(1)
    store.claim([silent], "gone", lease=LEASE)
    with store._engine.begin() as connection:
        then = utc_now() - timedelta(hours=1)
        connection.execute(update(jobs).where(jobs.c.id == silent).values(lease_until=then))

    # When every chore is done, some of them a second time
    work = chores(client, LeaseExpiry(store, lease=LEASE), threading.Event())
    for chore in [*work, *work]:
        chore.run()
    sender = WebhookSender.from_settings(store, client.settings)
    store.cancel([silent, waiting])
    store.tell_ended_batches()
    [delivery] = store.take_deliveries(1, patience=60)
    sender.deliver(delivery)

    # Then all was done, and what was sent was written down
    assert len(work) > 5
    assert {store.job(each).state for each in (silent, waiting)} == {State.CANCELLED}
    assert store.counts(batch.id)[State.CANCELLED] == 2
    [told] = store.deliveries(batch_id=batch.id)
    assert "EDICT_WEBHOOK_SECRET" in (told.error or "")
