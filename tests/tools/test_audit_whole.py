"""`make audit` with its own tools, against a service that answers as OSV does."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tools.audit import FOUND, UNANSWERED

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
HOLE = {
    "id": "GHSA-test",
    "aliases": ["CVE-test"],
    "summary": "a hole",
    "affected": [
        {
            "package": {"name": "pillow", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "999"}]}],
        }
    ],
}


@dataclass
class Service:
    """Knows the holes that it is told of, and writes down what it is asked about."""

    url: str
    holes: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)


@pytest.fixture
def service() -> Iterator[Service]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = question["package"]["name"]
            known.asked[name] = question["version"]
            hole = known.holes.get(name)
            answer = json.dumps({"vulns": [hole]} if hole else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        known = Service(f"http://127.0.0.1:{server.server_port}/v1/query")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield known
        server.shutdown()


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment of the audit's tools, made as `make audit` makes it."""
    folder = tmp_path_factory.mktemp("audit") / "venv"
    make = ["make", f"AUDIT={folder}", f"{folder}/.done"]
    subprocess.run(make, cwd=ROOT, check=True, capture_output=True)
    return folder / "bin"


def audit(tools: Path, url: str, out: Path) -> subprocess.CompletedProcess[str]:
    command = [tools / "python", "tools/audit.py", "--service", "osv"]
    where = ["--python", sys.executable, "--out", str(out / "sbom.cdx.json")]
    # A cache would answer for the service, and a proxy may stand between.
    own = {"PIP_AUDIT_OSV_URL": url, "HOME": str(out), "XDG_CACHE_HOME": str(out), "NO_PROXY": "*"}
    return subprocess.run(
        [*command, *where], cwd=ROOT, env=os.environ | own, capture_output=True, text=True
    )


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if "==" in line]
    return {name.lower().replace("_", "-").replace(".", "-"): version for name, version in pairs}


def test_every_pinned_version_is_asked_about_and_every_installed_one_is_in_the_bill(
    tools: Path, service: Service, tmp_path: Path
) -> None:
    done = audit(tools, service.url, tmp_path)

    assert done.returncode == os.EX_OK, done.stdout + done.stderr
    assert "audit: 0 known vulnerabilities" in done.stdout
    assert service.asked == pins()
    bill = json.loads((tmp_path / "sbom.cdx.json").read_text())
    listed = {each["name"].lower() for each in bill["components"]}
    assert {"celery", "torch", "diffusers", "boto3", "sqlalchemy", "pydantic"} <= listed
    assert bill["bomFormat"] == "CycloneDX"


def test_a_hole_in_a_pinned_version_fails_the_audit_with_its_name_and_remedy(
    tools: Path, service: Service, tmp_path: Path
) -> None:
    service.holes["pillow"] = HOLE

    done = audit(tools, service.url, tmp_path)

    assert done.returncode == FOUND
    [line] = [line for line in done.stdout.splitlines() if "; mended in 999" in line]
    assert line.startswith(f"  pillow {pins()['pillow']}: ")
    assert {"GHSA-test", "CVE-test"} <= set(re.findall(r"[\w-]+", line))
    assert (tmp_path / "sbom.cdx.json").exists()


def test_a_service_that_is_away_is_no_clean_bill(tools: Path, tmp_path: Path) -> None:
    done = audit(tools, "http://127.0.0.1:9/v1/query", tmp_path)

    assert done.returncode == UNANSWERED
    assert "does not answer" in done.stdout
