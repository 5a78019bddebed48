"""Figures for Prometheus: true, whatever the database, and named as the alert rules name them."""

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from jobs.database import open_database
from jobs.errors import ConfigurationError
from jobs.store import JobStore
from producer.control.pulse import ANY, Pulse
from producer.embedded.ports import LOOPBACK, free_ports
from producer.metrics import ACTIONS, STALLED_SECONDS, Standing, metrics_server
from tests.jobs.factories import Clock, claim, submit
from worker import metrics as worker_metrics

ROOT = Path(__file__).parents[2]
RULES = yaml.safe_load((ROOT / "deploy" / "monitoring" / "alerts.yaml").read_text())
GRAFANA = ROOT / "deploy" / "monitoring" / "grafana" / "dashboards"
DASHBOARD = json.loads((GRAFANA / "edict.json").read_text())
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

    with metrics_server(store, port, Pulse(["jobs"])):
        with urllib.request.urlopen(url, timeout=20) as answer:
            found = parsed(answer.read().decode())
        with (
            pytest.raises(ConfigurationError, match=f"--metrics-port {port} cannot"),
            metrics_server(store, port, Pulse([])),
        ):
            pass

    assert found["edict_jobs pending"] == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=20)


def test_a_chore_that_hangs_fails_the_health_check(store: JobStore) -> None:
    [port] = free_ports(1)
    now = 0.0
    pulse = Pulse(["leases", "jobs"], clock=lambda: now)

    def health() -> tuple[int, str]:
        answer = httpx.get(f"http://{LOOPBACK}:{port}/livez", timeout=20)
        return answer.status_code, answer.text

    with metrics_server(store, port, pulse):
        assert health() == (200, "ok\n")
        with pulse.during("jobs"), pulse.during("retention"):
            now += STALLED_SECONDS + 1
            with pulse.during("leases"):
                assert health() == (503, f"no end for {STALLED_SECONDS:g} s: jobs\n")
        assert health() == (200, "ok\n")


def test_a_process_that_does_nothing_is_healthy_only_while_it_could_not_be_asked() -> None:
    now = 0.0
    pulse = Pulse(["jobs"], clock=lambda: now)
    now += 61
    assert pulse.late(60) == [ANY]
    pulse.excuse()
    assert pulse.late(60) == []
    with pulse.during("retention"):
        now += 61
        assert pulse.late(60) == [ANY]
    assert pulse.late(60) == []


def described() -> set[str]:
    """Metrics of the runbook's tables and sentences."""
    return set(re.findall(r"`(edict_\w+?)(?:_total)?`", RUNBOOK))


def told(store: JobStore) -> set[str]:
    """What control and workers tell."""
    of_workers = {
        metric.describe()[0].name
        for metric in vars(worker_metrics).values()
        if isinstance(metric, MetricWrapperBase)
    }
    assert len(of_workers) == 8
    of_control = {family.name for family in (*Standing(store).collect(), *ACTIONS.describe())}
    return of_control | of_workers


def asked(expression: str) -> set[str]:
    """The metrics that a query names, without the endings that Prometheus gives them."""
    return {
        re.sub(r"_(total|bucket|sum|count)$", "", name)
        for name in re.findall(r"edict_\w+", expression)
    }


def test_every_metric_is_described_and_nothing_else(store: JobStore) -> None:
    assert told(store) == described()


@pytest.mark.parametrize("rule", RULES["groups"][0]["rules"], ids=lambda rule: rule["alert"])
def test_every_alert_asks_for_metrics_that_exist_and_has_a_section(rule: dict) -> None:
    assert asked(rule["expr"])
    assert asked(rule["expr"]) <= described()
    assert f"### {rule['alert']}\n" in RUNBOOK
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    shown = {
        name
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
        for name in asked(target["expr"])
    }

    assert shown == described()


def test_no_panel_of_the_dashboard_covers_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
