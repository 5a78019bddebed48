"""Figures for Prometheus: true, whatever the database, and named as the alert rules name them."""

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from jobs.database import open_database
from jobs.errors import ConfigurationError
from jobs.store import JobStore
from producer.embedded.ports import LOOPBACK, free_ports
from producer.metrics import Standing, metrics_server
from tests.jobs.factories import Clock, claim, submit

ROOT = Path(__file__).parents[2]
RULES = yaml.safe_load((ROOT / "deploy" / "monitoring" / "alerts.yaml").read_text())
RUNBOOK = (ROOT / "docs" / "operations.md").read_text()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(database_url: str, clock: Clock) -> Iterator[JobStore]:
    engine = open_database(database_url)
    yield JobStore(engine, clock=clock)
    engine.dispose()


def parsed(text: str) -> dict[str, float]:
    """The samples, by `name` or `name label`."""
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(store: JobStore) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(Standing(store))
    return parsed(generate_latest(registry).decode())


def test_figures_are_those_of_the_tables(store: JobStore, clock: Clock) -> None:
    # Given a failed, a running, two queued and four pending jobs
    job_ids = submit(store, 8)
    store.take_due(4)
    store.fail(claim(store, job_ids[0]), "bad_image", "it is none")
    claim(store, job_ids[1])
    clock.tick(90)

    found = scraped(store)

    counts = store.counts()
    assert found["edict_database_up"] == 1
    assert counts["failed"] == counts["running"] == 1
    assert {state: found[f"edict_jobs {state}"] for state in counts} == dict(counts)
    assert found["edict_jobs_failed bad_image"] == 1
    assert found["edict_queue_oldest_seconds bulk"] == 90
    assert found["edict_queue_oldest_seconds interactive"] == 0
    assert found["edict_leases_overdue"] == 1


def test_a_database_that_does_not_answer_is_told() -> None:
    engine = open_database("postgresql://edict:hidden@127.0.0.1:1/edict")

    assert scraped(JobStore(engine)) == {"edict_database_up": 0}


def test_the_server_answers_and_ends(store: JobStore) -> None:
    [port] = free_ports(1)
    url = f"http://{LOOPBACK}:{port}/metrics"

    with metrics_server(store, port):
        with urllib.request.urlopen(url, timeout=20) as answer:
            found = parsed(answer.read().decode())
        with (
            pytest.raises(ConfigurationError, match=f"--metrics-port {port} cannot"),
            metrics_server(store, port),
        ):
            pass

    assert found["edict_jobs pending"] == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=20)


def named() -> set[str]:
    """Metrics of the runbook's table."""
    return set(re.findall(r"^\| `(edict_\w+)`", RUNBOOK, re.MULTILINE))


def test_every_metric_is_described_and_nothing_else(store: JobStore) -> None:
    families = {family.name for family in Standing(store).collect()}

    assert families == named()


@pytest.mark.parametrize("rule", RULES["groups"][0]["rules"], ids=lambda rule: rule["alert"])
def test_every_alert_asks_for_metrics_that_exist_and_has_a_section(rule: dict) -> None:
    metrics = set(re.findall(r"edict_\w+", rule["expr"]))

    assert metrics
    assert metrics <= named()
    assert f"### {rule['alert']}\n" in RUNBOOK
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
