"""What Prometheus and Grafana are given: read as they read it, and about what is there."""

import json
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
MONITORING = DEPLOY / "monitoring"
SERVICES = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())["services"]
RULES = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
PROMETHEUS = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())
DASHBOARD = json.loads((MONITORING / "grafana" / "dashboards" / "edict.json").read_text())


def queries() -> list[str]:
    """Of every alert and every panel."""
    alerts = [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]
    targets = [target for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [*alerts, *(target["expr"] for target in targets)]


def mounted(service: str) -> dict[str, Path]:
    """The files and folders of ours that a service sees, by where it sees them."""
    mounts = (mount.split(":") for mount in SERVICES[service]["volumes"] if mount[0] == ".")
    return {there: (DEPLOY / "compose" / here).resolve() for here, there, *_ in mounts}


@pytest.mark.parametrize("query", queries())
def test_every_query_is_one_that_prometheus_reads(query: str):
    promql_parser.parse(query)


def test_what_is_no_query_is_found():
    for query in ("sum(", "rate(edict_worker_jobs_total)", "edict_jobs offset"):
        with pytest.raises(ValueError, match=r"\w"):
            promql_parser.parse(query)


@pytest.mark.parametrize("rule", RULES["groups"][0]["rules"], ids=lambda rule: rule["alert"])
def test_an_alert_has_the_fields_of_a_rule_and_no_other(rule: dict[str, Any]):
    assert {"alert", "expr", "labels", "annotations"} <= set(rule)
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in {"page", "ticket"}
    # Prometheus' own durations are what its queries have, too.
    promql_parser.parse(f"edict_jobs offset {rule.get('for', '1s')}")


def test_prometheus_finds_the_rules_and_asks_services_at_ports_where_they_answer():
    seen = mounted("prometheus")
    for path in PROMETHEUS["rule_files"]:
        assert seen[path] == MONITORING / "alerts.yaml"
    assert seen["/etc/prometheus/prometheus.yaml"] == MONITORING / "prometheus.yaml"

    asked = [each for job in PROMETHEUS["scrape_configs"] for each in job["dns_sd_configs"]]
    assert {name for each in asked for name in each["names"]} == {"control", "worker-0"}
    for each in asked:
        for name in each["names"]:
            command = SERVICES[name]["command"]
            assert command[command.index("--metrics-port") + 1] == str(each["port"])


def test_grafana_finds_the_dashboard_and_prometheus():
    seen = mounted("grafana")
    provisioned = MONITORING / "grafana" / "provisioning"
    assert seen["/etc/grafana/provisioning"] == provisioned
    [provider] = yaml.safe_load((provisioned / "dashboards" / "edict.yaml").read_text())[
        "providers"
    ]
    assert seen[provider["options"]["path"]] == MONITORING / "grafana" / "dashboards"

    file = provisioned / "datasources" / "prometheus.yaml"
    [source] = yaml.safe_load(file.read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    # Panels ask the source that is chosen at the top: one of Prometheus, this one at first.
    [choice] = DASHBOARD["templating"]["list"]
    assert (choice["type"], choice["query"]) == ("datasource", source["type"])
    assert source["isDefault"]
    for panel in DASHBOARD["panels"]:
        assert panel["datasource"]["uid"] == f"${{{choice['name']}}}", panel["title"]
