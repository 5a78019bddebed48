"""The compose file, the images and the units agree with the code and with each other."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.compose.prepare import PROCESSES
from jobs.settings import Settings
from worker.main import STOP_SECONDS

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
DOCKERFILES = sorted((DEPLOY / "images").glob("*.Dockerfile"))
GRACE = Settings.model_fields["stop_grace_seconds"].default + STOP_SECONDS
"""Seconds that a worker may take to stop."""
SETTINGS = {f"EDICT_{name.upper()}" for name in Settings.model_fields}


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
    assert {"postgres", "redis", "s3", "migrate", "control", "api", "worker-0"} <= set(services)

    for service in services.values():
        for name, how in service.get("depends_on", {}).items():
            assert name in services
            assert how["condition"] != "service_healthy" or "healthcheck" in services[name]


def test_every_volume_of_the_compose_file_is_declared_and_used():
    used = {
        mount.split(":")[0]
        for service in COMPOSE["services"].values()
        for mount in service.get("volumes", [])
        if not mount.startswith(".")
    }

    assert used == set(COMPOSE["volumes"])


def test_every_image_has_a_tag_and_can_be_pinned_by_its_digest_in_env():
    images = {
        service["image"]
        for service in COMPOSE["services"].values()
        if service not in of_ours().values()
    }
    assert len(images) == 5
    for image in images:
        assert re.fullmatch(r"\$\{[A-Z]+_IMAGE:-[a-z/]+:v?\d[\d.]*\}", image)

    # Ours are built, and take the base that their Dockerfile names.
    for service in of_ours().values():
        if "build" in service:
            text = (DEPLOY.parent / service["build"]["dockerfile"]).read_text()
            assert re.findall(r"^ARG (\w+_IMAGE)=", text, re.MULTILINE) == service["build"]["args"]


def test_redis_keeps_an_append_only_file():
    command = COMPOSE["services"]["redis"]["command"]

    assert command[command.index("--appendonly") + 1] == "yes"


def test_addresses_of_results_lead_to_the_store_from_outside_of_the_containers():
    services = COMPOSE["services"]
    [published] = services["s3"]["ports"]
    address, _, port = published.rpartition(":")
    api = services["api"]["environment"]

    assert api["EDICT_S3_ENDPOINT_URL"] == f"http://s3:{port}"
    assert f"-s3.port={port}" in services["s3"]["command"]
    assert api["EDICT_S3_PUBLIC_URL"] == f"${{EDICT_S3_PUBLIC_URL:-http://{address}}}"


def test_a_key_that_changed_starts_the_store_anew():
    # Compose compares what the service says, not the content of its files.
    content = COMPOSE["configs"]["s3"]["content"]

    assert content in COMPOSE["services"]["s3"]["environment"].values()


def test_an_empty_store_reserves_no_disk():
    assert "-master.volumePreallocate=false" in COMPOSE["services"]["s3"]["command"]


def test_the_store_is_not_killed_while_it_stops():
    assert compose_seconds(COMPOSE["services"]["s3"]["stop_grace_period"]) > 25


def test_the_database_is_healthy_only_when_it_answers_where_others_ask():
    check = COMPOSE["services"]["postgres"]["healthcheck"]["test"]

    assert check[check.index("-h") + 1] == "127.0.0.1"


def test_the_file_with_the_passwords_is_never_committed():
    assert ".env" in (DEPLOY.parent / ".gitignore").read_text().splitlines()


def test_our_containers_may_write_nothing_but_what_is_named():
    for name, service in of_ours().items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name


def test_no_password_is_written_in_the_compose_file():
    # Neither takes one.
    stores = {"EDICT_S3_ENDPOINT_URL", "EDICT_S3_PUBLIC_URL"}
    for service in COMPOSE["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|AUTH|_URL", name) and name not in stores:
                assert re.search(r"\$\{\w+PASSWORD:\?", value), name
    for config in COMPOSE["configs"].values():
        for secret in re.findall(r'"secretKey": "([^"]*)"', config["content"]):
            assert re.match(r"\$\{\w+PASSWORD:\?", secret), secret


def test_only_what_ends_has_the_owners_passwords():
    owners = ("POSTGRES_PASSWORD", "S3_PASSWORD")
    knows = {
        name
        for name, service in of_ours().items()
        if any(each in str(service["environment"]) for each in owners)
    }

    assert knows == {"migrate", "prepare"}
    for name in knows:
        assert COMPOSE["services"][name]["restart"] == "on-failure"


def test_what_goes_on_running_knows_no_other_process_password():
    running = {name: each for name, each in of_ours().items() if each["restart"] != "on-failure"}
    assert {name.partition("-")[0] for name in running} == set(PROCESSES)

    for name, service in running.items():
        process = name.partition("-")[0]
        known = set(re.findall(r"\$\{(\w+PASSWORD)", str(service)))
        assert known == {f"{process.upper()}_PASSWORD", "REDIS_PASSWORD"}, name
        login = service["environment"]["EDICT_DATABASE_URL"].partition("//")[2].partition(":")[0]
        assert login == service["environment"]["EDICT_S3_ACCESS_KEY_ID"] == process
        assert service["depends_on"]["prepare"]["condition"] == "service_completed_successfully"


def test_every_variable_of_our_services_is_a_setting():
    for name, service in of_ours().items():
        handed_out = {f"{each.upper()}_PASSWORD" for each in PROCESSES if name == "prepare"}
        assert set(service["environment"]) - handed_out <= SETTINGS
        assert {"EDICT_DATABASE_URL", "EDICT_REDIS_URL", "EDICT_S3_BUCKET"} <= set(
            service["environment"]
        )


def test_every_service_manager_waits_longer_than_a_worker_takes_to_stop():
    unit = (DEPLOY / "systemd" / "edict-worker@.service").read_text()
    [systemd] = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    workers = [each for name, each in of_ours().items() if name.startswith("worker")]
    assert workers

    assert float(systemd) > GRACE
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


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_images_are_not_root_and_copy_only_what_the_context_lets_in(path: Path):
    lines = path.read_text().splitlines()
    ignore = (DEPLOY.parent / ".dockerignore").read_text().split()

    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001"]
    assert "*" in ignore
    for line in ignore:
        if line.startswith("!"):
            assert (DEPLOY.parent / line[1:]).exists(), line
    # Nor does a registry say what a Dockerfile means: what Docker brings understands it all.
    assert not any(re.search(r":latest|^ADD |^# syntax=", line) for line in lines)


def test_what_torch_compiles_lies_in_the_volume_and_not_in_tmp_where_no_program_may_be():
    text = (DEPLOY / "images" / "worker.Dockerfile").read_text()
    [volume] = re.findall(r"^VOLUME (\S+)$", text, re.MULTILINE)
    [folder] = re.findall(r"TORCHINDUCTOR_CACHE_DIR=(\S+)", text)

    assert folder.startswith(f"{volume}/")
    worker = COMPOSE["services"]["worker-0"]
    assert worker["volumes"] == [f"weights:{volume}"]


def test_the_control_image_has_no_torch():
    text = (DEPLOY / "images" / "control.Dockerfile").read_text()

    assert "'.[bulk,serve,tracing]'" in text
    assert "[worker" not in text


def test_the_compose_file_is_one_by_its_specification():
    file = DEPLOY / "compose" / "compose.yaml"

    done = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(file))

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing_to_complain_of(path: Path):
    done = tool("hadolint", str(path))

    assert done.returncode == 0, done.stdout


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name(name)
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
