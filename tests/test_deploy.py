"""The deployment files agree with the code and with each other; nothing here needs a cluster."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.database import open_database
from jobs.settings import Settings
from jobs.store import JobStore
from tests.jobs.factories import claim, queue, submit
from worker.main import STOP_SECONDS

DEPLOY = Path(__file__).parents[1] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
DOCKERFILES = sorted((DEPLOY / "images").glob("*.Dockerfile"))
GRACE = Settings.model_fields["stop_grace_seconds"].default + STOP_SECONDS
"""Seconds that a worker may take to stop."""
SETTINGS = {f"EDICT_{name.upper()}" for name in Settings.model_fields}


def documents(file: Path) -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load_all(file.read_text())


def in_base() -> list[dict[str, Any]]:
    """All objects that the base's kustomization names."""
    folder = DEPLOY / "kubernetes" / "base"
    [kustomization] = documents(folder / "kustomization.yaml")
    return [each for name in kustomization["resources"] for each in documents(folder / name)]


def pods() -> dict[str, dict[str, Any]]:
    """The pods that the base starts, by the name of what starts them."""
    return {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]
        for each in in_base()
        if each["kind"] in {"Deployment", "Job"}
    }


def compose_seconds(text: str) -> float:
    [number] = re.findall(r"^(\d+)s$", text)
    return float(number)


def of_ours() -> dict[str, dict[str, Any]]:
    return {
        name: service
        for name, service in COMPOSE["services"].items()
        if service["image"].startswith("edict-")
    }


def test_every_service_of_the_compose_file_waits_for_services_that_are_there():
    services = COMPOSE["services"]
    assert {"postgres", "redis", "s3", "migrate", "control", "worker-0"} <= set(services)

    for service in services.values():
        for name, how in service.get("depends_on", {}).items():
            healthy = how["condition"] == "service_healthy"
            assert "healthcheck" in services[name] if healthy else "command" in services[name]


def test_every_volume_of_the_compose_file_is_declared_and_used():
    used = {
        mount.split(":")[0]
        for service in COMPOSE["services"].values()
        for mount in service.get("volumes", [])
        if not mount.startswith("..")
    }

    assert used == set(COMPOSE["volumes"])


def test_redis_keeps_an_append_only_file():
    command = COMPOSE["services"]["redis"]["command"]

    assert command[command.index("--appendonly") + 1] == "yes"


def test_our_containers_may_write_nothing_but_what_is_named():
    for name, service in of_ours().items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name


def test_no_password_is_written_in_the_compose_file():
    for service in COMPOSE["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|AUTH|_URL", name) and name != "EDICT_S3_ENDPOINT_URL":
                assert re.search(r"\$\{\w+PASSWORD:\?", value), name


def test_every_variable_of_our_services_is_a_setting():
    for service in of_ours().values():
        assert set(service["environment"]) <= SETTINGS
        assert {"EDICT_DATABASE_URL", "EDICT_REDIS_URL", "EDICT_S3_BUCKET"} <= set(
            service["environment"]
        )


def test_every_service_manager_waits_longer_than_a_worker_takes_to_stop():
    unit = (DEPLOY / "systemd" / "edict-worker@.service").read_text()
    [systemd] = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    workers = [each for name, each in of_ours().items() if name.startswith("worker")]
    assert workers

    assert float(systemd) > GRACE
    assert pods()["edict-worker"]["terminationGracePeriodSeconds"] > GRACE
    for worker in workers:
        assert compose_seconds(worker["stop_grace_period"]) > GRACE


def test_every_worker_has_a_device_of_its_own():
    devices = [
        device["device_ids"]
        for name, service in of_ours().items()
        if name.startswith("worker")
        for device in service["deploy"]["resources"]["reservations"]["devices"]
    ]
    assert devices
    assert len(devices) == len({str(each) for each in devices})

    [container] = pods()["edict-worker"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_no_pod_is_root_writes_on_its_root_or_speaks_to_the_cluster():
    assert set(pods()) == {"edict-migrate", "edict-control", "edict-worker"}

    for pod in pods().values():
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_secrets_are_named_and_never_written():
    [settings] = [each["data"] for each in in_base() if each["kind"] == "ConfigMap"]
    assert set(settings) <= SETTINGS
    secret = {
        f"EDICT_{name.upper()}"
        for name, field in Settings.model_fields.items()
        if "SecretStr" in str(field.annotation)
    }
    assert secret

    assert not secret & set(settings)
    assert not [each for each in in_base() if each["kind"] == "Secret"]


def test_selectors_and_budgets_find_their_pods():
    labels = [
        each["spec"]["template"]["metadata"]["labels"]
        for each in in_base()
        if each["kind"] in {"Deployment", "Job"}
    ]
    selectors = [
        each["spec"].get("selector", each["spec"].get("podSelector"))["matchLabels"]
        for each in in_base()
        if each["kind"] in {"Deployment", "PodDisruptionBudget", "NetworkPolicy"}
    ]
    assert len(selectors) == 5

    for selector in selectors:
        assert any(selector.items() <= each.items() for each in labels), selector


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_images_are_not_root_and_copy_only_what_the_context_lets_in(path: Path):
    lines = path.read_text().splitlines()
    ignore = (DEPLOY.parent / ".dockerignore").read_text().split()

    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001"]
    assert "*" in ignore
    for line in ignore:
        if line.startswith("!"):
            assert (DEPLOY.parent / line[1:]).exists(), line
    assert not any(re.search(r":latest|^ADD ", line) for line in lines)


def test_the_control_image_has_no_torch():
    text = (DEPLOY / "images" / "control.Dockerfile").read_text()

    assert "'.[bulk]'" in text
    assert "[worker" not in text


def scaling_query() -> str:
    [query] = [
        trigger["metadata"]["query"]
        for each in documents(DEPLOY / "kubernetes" / "scaled" / "pool-scaling.yaml")
        if each["kind"] == "ScaledObject"
        for trigger in each["spec"]["triggers"]
    ]
    return query


def test_the_scaling_query_counts_what_is_queued_and_what_runs(database_url: str):
    # Given one running, two queued and three pending jobs
    engine = open_database(database_url)
    store = JobStore(engine)
    claim(store, queue(store, 3)[-1])
    submit(store, 6)
    with engine.connect() as connection:
        cursor = connection.connection.cursor()
        # As the scaler sends it: without parameters, so that % is no mark.
        cursor.execute(scaling_query())
        [counted] = cursor.fetchone()
    states = store.counts()
    engine.dispose()

    assert (states["pending"], states["queued"], states["running"]) == (3, 2, 1)
    assert counted == 3


@pytest.mark.parametrize("folder", ["base", "scaled"])
def test_kustomize_renders_what_is_there(folder: str):
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")

    rendered = subprocess.run(
        [kubectl, "kustomize", str(DEPLOY / "kubernetes" / folder)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    kinds = [each["kind"] for each in yaml.safe_load_all(rendered)]
    assert len(kinds) == len(in_base()) + (2 if folder == "scaled" else 0)
