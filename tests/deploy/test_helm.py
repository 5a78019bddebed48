"""The chart: what a cluster would get of it, and which values it refuses."""

import json
import re
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest

from jobs.database import open_database
from jobs.settings import Settings
from jobs.store import JobStore
from tests.deploy.helm import CHART, MISSING, find_helm, options, render, run, scaling_query
from tests.jobs.factories import claim, edit, queue, submit
from worker.main import STOP_SECONDS

pytestmark = pytest.mark.skipif(find_helm() is None, reason=MISSING)

VERSIONS = ("1.27.0", "1.30.0", "1.34.0", "1.37.0")
VALUES: dict[str, dict[str, object]] = {
    "as it is": {},
    "bare": {"api.enabled": False, "keda.enabled": False, "network.enabled": False},
    "everything": {
        "api.ingress.enabled": True,
        "api.ingress.className": "nginx",
        "api.ingress.tlsSecret": "edict-tls",
        "images.pullSecrets[0].name": "registry",
        "serviceAccount.annotations.role": "bucket",
        "api.volumes[0].name": "photos",
        "api.volumes[0].persistentVolumeClaim.claimName": "photos",
        "api.volumeMounts[0].name": "photos",
        "api.volumeMounts[0].mountPath": "/srv/photos",
        "settings.EDICT_SOURCE_ROOTS": "/srv/photos",
        "settings.EDICT_MODELS": r"demo\, owner/sd15@39593d5",
        "pools.big.model": "owner/sd15@39593d5",
        "pools.big.prefetch": True,
        "pools.big.minReplicas": 2,
        "pools.big.maxReplicas": 4,
        "pools.big.nodeSelector.gpu": "h100",
        "workers.cache.existingClaim": "weights",
    },
}
SETTINGS = {f"EDICT_{name.upper()}" for name in Settings.model_fields}
SECRET = {
    f"EDICT_{name.upper()}"
    for name, field in Settings.model_fields.items()
    if "SecretStr" in str(field.annotation)
}

Objects = list[dict[str, Any]]


@pytest.fixture(scope="module", params=VALUES)
def objects(request: pytest.FixtureRequest) -> Objects:
    """Of every set of values."""
    return render(VERSIONS[-1], VALUES[request.param])


def pods(objects: Objects) -> dict[str, dict[str, Any]]:
    """What the pods are made from, by the name of what starts them."""
    return {
        each["metadata"]["name"]: each["spec"]["template"]
        for each in objects
        if each["kind"] in {"Deployment", "Job"}
    }


def containers(objects: Objects) -> list[dict[str, Any]]:
    return [
        container
        for pod in pods(objects).values()
        for container in [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]
    ]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("values", VALUES)
def test_every_object_is_one_that_kubernetes_of_this_version_knows(version: str, values: str):
    found = render(version, VALUES[values])

    checked = [each for each in found if not each["apiVersion"].startswith("keda.sh")]
    assert len(checked) >= 7
    for each in checked:
        kubernetes_validate.validate(each, version, strict=True)


def test_helm_finds_nothing_to_complain_of():
    done = run("lint", "--strict", str(CHART))

    assert done.returncode == 0, done.stdout


def test_each_pool_has_workers_of_its_own_and_each_of_them_one_gpu():
    started = pods(render("1.34.0", VALUES["everything"])).values()
    by_pool = {pod["metadata"]["labels"].get("edict/pool"): pod["spec"] for pod in started}
    assert {"default", "big"} <= set(by_pool)

    for pool, model in (("default", "demo"), ("big", "owner/sd15@39593d5")):
        [container] = by_pool[pool]["containers"]
        assert container["args"][:5] == ["worker", "--devices", "0", "--model", model]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert by_pool["big"]["initContainers"][0]["args"] == ["prefetch", "owner/sd15@39593d5"]
    assert by_pool["big"]["nodeSelector"] == {"gpu": "h100"}


def test_a_worker_is_given_longer_than_it_takes_to_stop(objects: Objects):
    for name, pod in pods(objects).items():
        if "-worker-" in name:
            [worker] = pod["spec"]["containers"]
            [grace] = [
                float(each["value"])
                for each in worker["env"]
                if each["name"] == "EDICT_STOP_GRACE_SECONDS"
            ]
            assert pod["spec"]["terminationGracePeriodSeconds"] > grace + STOP_SECONDS


def test_no_pod_is_root_writes_on_its_root_or_speaks_to_the_cluster(objects: Objects):
    assert {"edict-migrate", "edict-control", "edict-worker-default"} <= set(pods(objects))

    for pod in pods(objects).values():
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        assert pod["spec"]["automountServiceAccountToken"] is False
    for container in containers(objects):
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]


def test_secrets_are_named_and_never_written(objects: Objects):
    [settings] = [each["data"] for each in objects if each["kind"] == "ConfigMap"]
    assert set(settings) <= SETTINGS
    assert not SECRET & set(settings)
    assert not [each for each in objects if each["kind"] == "Secret"]

    for container in containers(objects):
        named = {each["name"] for each in container.get("env", [])}
        assert not SECRET & named
        assert {"secretRef": {"name": "edict-secrets"}} in container["envFrom"]


def test_an_image_with_a_digest_is_pinned_to_it_and_others_go_by_their_tag():
    digest = f"sha256:{'ab' * 32}"

    found = containers(render("1.34.0", {"images.worker.digest": digest}))

    assert {each["image"] for each in found} == {
        "edict-control:0.1.0",
        f"edict-worker:0.1.0@{digest}",
    }


def test_selectors_and_budgets_find_pods_and_only_those_they_mean(objects: Objects):
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(objects).items()}
    for each in objects:
        if each["kind"] not in {"Deployment", "PodDisruptionBudget", "Service"}:
            continue
        selector = each["spec"]["selector"]
        wanted = selector.get("matchLabels", selector)
        found = [name for name, has in labels.items() if wanted.items() <= has.items()]
        assert found == [each["metadata"]["name"]]


def test_the_api_asks_for_keys_and_is_asked_whether_it_is_ready():
    pod = pods(render("1.34.0", {}))["edict-api"]["spec"]

    [container] = pod["containers"]
    assert "--require-key" in container["args"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"


def test_tables_are_migrated_before_the_pods_of_an_upgrade_come(objects: Objects):
    [job] = [each for each in objects if each["kind"] == "Job"]

    assert "pre-upgrade" in job["metadata"]["annotations"]["helm.sh/hook"].split(",")


def scaled(values: dict[str, object]) -> dict[str, dict[str, Any]]:
    return {
        each["metadata"]["name"]: each["spec"]
        for each in render("1.34.0", values)
        if each["kind"] == "ScaledObject"
    }


def test_pools_are_scaled_down_to_none_unless_they_say_otherwise():
    found = scaled(VALUES["everything"])

    assert found["edict-worker-default"]["minReplicaCount"] == 0
    assert found["edict-worker-big"]["minReplicaCount"] == 2
    assert not scaled(VALUES["bare"])


def test_without_keda_a_pool_has_its_full_size():
    [workers] = [
        each
        for each in render("1.34.0", VALUES["bare"] | {"pools.default.maxReplicas": 3})
        if each["kind"] == "Deployment" and "-worker-" in each["metadata"]["name"]
    ]

    assert workers["spec"]["replicas"] == 3


@pytest.fixture
def store(postgresql_url: str) -> Iterator[JobStore]:
    engine = open_database(postgresql_url)
    yield JobStore(engine)
    engine.dispose()


def scaled_by(store: JobStore) -> int:
    """What the shipped query counts in this database."""
    with store._engine.connect() as connection:
        cursor = connection.connection.cursor()
        # As the scaler sends it: without parameters, so that % is no mark.
        cursor.execute(scaling_query(render("1.34.0", {})))
        [counted] = cursor.fetchone()
    return int(counted)


def test_the_scaling_query_counts_what_is_queued_and_what_runs(store: JobStore):
    # Given one running, two queued and three pending jobs
    claim(store, queue(store, 3)[-1])
    submit(store, 6)
    states = store.counts()
    assert (states["pending"], states["queued"], states["running"]) == (3, 2, 1)

    assert scaled_by(store) == 3


def test_of_a_paused_batch_only_what_runs_is_counted(store: JobStore):
    # Given two running and one queued job of a batch, and one queued that is in none
    paused = store.open_batch("paused")
    held = queue(store, 3, batch_id=paused.id)
    claim(store, held[0])
    claim(store, held[1])
    store.submit([edit(prompt="another")])
    store.take_due(1)
    assert scaled_by(store) == 4

    store.pause_batch(paused.id)

    # Then the workers of the running jobs are still asked for
    assert scaled_by(store) == 3


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"images.worker.tag": "latest"}, "tag"),
        ({"images.worker.digest": "sha256:abc"}, "digest"),
        ({"settings.EDICT_DATABASE_URL": "postgresql://me:hunter2@db/edict"}, "settings"),
        ({"settings.LANG": "C"}, "settings"),
        ({"settings.EDICT_NOPE": "1"}, "settings"),
        ({"settings.EDICT_S3_BUCKET": ""}, "EDICT_S3_BUCKET"),
        ({"settings.EDICT_SOURCE_ROOTS": "photos"}, "EDICT_SOURCE_ROOTS"),
        ({"settings.EDICT_MODELS": "owner/sd15"}, "pools.default.model"),
        ({"pools.default.minReplicas": 9}, "pools.default.minReplicas is 9, over"),
        ({"api.minReplicas": 7}, "api.minReplicas is 7, over"),
        ({"pools.Big_GPU.model": "demo"}, "pools"),
        ({"pools.default.model": "it's"}, "model"),
        ({"pools.default.gpus": 2}, "gpus"),
        ({"control.replicas": 0}, "replicas"),
        ({"network.egressPorts[0]": 0}, "egressPorts"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(values: dict[str, object], complaint: str):
    cluster = ("--kube-version", VERSIONS[-1])
    done = run("template", "edict", str(CHART), *cluster, *options(values))

    assert done.returncode != 0
    assert complaint in done.stderr
    assert "hunter2" not in done.stdout


def test_the_schema_names_every_setting_that_is_no_secret():
    schema = json.loads((CHART / "values.schema.json").read_text())

    named = set(schema["properties"]["settings"]["propertyNames"]["enum"])
    # What a worker has to end is the chart's own to say: pods are given longer than that.
    assert named == SETTINGS - SECRET - {"EDICT_STOP_GRACE_SECONDS"}


def test_a_folder_of_images_is_mounted_where_the_settings_name_it():
    [api] = [
        pod for name, pod in pods(render("1.34.0", VALUES["everything"])).items() if "api" in name
    ]

    [container] = api["spec"]["containers"]
    mounted = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
    assert mounted == {"/tmp": "tmp", "/srv/photos": "photos"}
    assert {each["name"] for each in api["spec"]["volumes"]} == {"tmp", "photos"}


def test_every_value_is_in_the_schema_and_explained():
    text = (CHART / "values.yaml").read_text()

    tops = re.findall(r"^(\w+):", text, re.MULTILINE)
    explained = re.findall(r"^#.*\n(?:#.*\n)*(\w+):", text, re.MULTILINE)
    assert set(tops) - set(explained) <= {"images", "network"}
