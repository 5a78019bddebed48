"""`edict webhooks`, and the webhooks of `edict submit`."""

import json
from pathlib import Path

from producer.client import Client
from producer.webhooks.signing import Signer
from tests.producer.conftest import Edict


def submitted(edict: Edict, photo: Path, *options: str) -> object:
    words = ["--from", "a photo", "--to", "limes", "--batch", "fruit"]
    return edict("submit", "edit", photo, *words, *options)


def test_a_private_url_is_refused_before_anything_is_submitted(
    edict: Edict, client: Client, photo: Path
) -> None:
    for option in ("--webhook", "--job-webhook"):
        done = submitted(edict, photo, option, "http://10.0.0.1/hook")

        assert done.exit_code == 2
        assert "webhook: 10.0.0.1 is not a public address" in done.stderr
    assert sum(client.store.counts().values()) == 0


def test_deliveries_are_listed_and_sent_again_from_the_command_line(
    edict: Edict, client: Client, photo: Path
) -> None:
    url = "https://example.org/hook?token=hidden"
    assert submitted(edict, photo, "--webhook", url, "--job-webhook", url).exit_code == 0
    [job] = client.store.jobs_of(client.store.batch("fruit").id)
    client.store.cancel([job.id])
    client.store.tell_ended_batches()
    [first, _] = client.store.take_deliveries(9, patience=60)
    client.store.record_undelivered(first, "it answered 404", status=404, retry_in=None)

    shown = edict("webhooks", "list", "fruit").stdout
    assert "batch.ended" in shown
    assert "it answered 404" in shown
    assert "hidden" not in shown
    of_job = edict("webhooks", "list", str(job.id), "--json").stdout.splitlines()
    assert [json.loads(line)["event"] for line in of_job] == ["job.cancelled"]
    assert edict("webhooks", "list", "--state", "delivered", "--json").stdout == ""

    assert "1 to be sent again" in edict("webhooks", "resend", "--failed").stdout
    assert "1 to be sent again" in edict("webhooks", "resend", str(first.id)).stdout
    assert [each.id for each in client.store.take_deliveries(9, patience=60)] == [first.id]
    for wrong, status, words in (
        (["resend"], 2, "none is named"),
        (["resend", str(job.id)], 1, "there are 0 of these 1 deliveries"),
        (["list", "--state", "lost"], 2, "must be one of pending, delivered, failed"),
        (["list", "nothing"], 1, "no job and no batch"),
    ):
        done = edict("webhooks", *wrong)
        assert (done.exit_code, words in done.stderr) == (status, True), done.stderr


def test_a_new_secret_is_one(edict: Edict) -> None:
    secret = edict("webhooks", "secret").stdout.strip()

    assert Signer(secret)
    assert secret != edict("webhooks", "secret").stdout.strip()
