"""Audit of what the project depends on: known vulnerabilities, and a bill of materials.

    make audit

runs it with tools that live in an environment of their own. It never passes for want of an answer:
pip-audit itself calls a package that its service does not know "skipped" and reports that nothing
was found.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOUND = 1
UNANSWERED = os.EX_UNAVAILABLE
_SHOWN = 5
_UNREACHABLE = ("ConnectionError", "ServiceError", "NameResolutionError", "Timeout", "timed out")


@dataclass(frozen=True)
class Verdict:
    """What an audit came to."""

    lines: Sequence[str]
    """For people."""
    status: int


def main() -> int:
    """Audit the pinned versions, write the bill of materials, and say how it went."""
    options = _options()
    tools = Path(sys.executable).parent
    verdict = audit(tools / "pip-audit", options.constraints, options.service)
    materials = bill(tools / "cyclonedx-py", options.python, options.out)
    for line in [*verdict.lines, *materials.lines]:
        print(line)  # noqa: T201
    return verdict.status or materials.status


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Known vulnerabilities, and what is in it.")
    parser.add_argument("--constraints", type=Path, default=Path("constraints.txt"))
    parser.add_argument("--python", type=Path, default=Path(".venv/bin/python"))
    parser.add_argument("--out", type=Path, default=Path("sbom.cdx.json"))
    parser.add_argument("--service", choices=["pypi", "osv"], default="pypi")
    return parser.parse_args()


def audit(program: Path, constraints: Path, service: str) -> Verdict:
    """Ask a service about every pinned version; nothing is installed for it."""
    command: list[str | Path] = [program, "-r", constraints, "--no-deps", "--disable-pip"]
    command += ["--vulnerability-service", service, "--progress-spinner", "off", "-f", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        return _no_report(done.stderr, service)
    return judge(report, service)


def _no_report(error: str, service: str) -> Verdict:
    reason = (error.strip().splitlines() or ["it said nothing"])[-1]
    if any(word in error for word in _UNREACHABLE):
        remedy = "run it where the internet is reached, or ask another: SERVICE=pypi or osv"
        return Verdict(
            [f"audit: the service {service!r} does not answer ({reason:.200}); {remedy}"],
            UNANSWERED,
        )
    return Verdict([f"audit: pip-audit failed: {reason:.500}"], FOUND)


def judge(report: Mapping[str, Any], service: str) -> Verdict:
    """What pip-audit's report means: an unknown package is a question without an answer."""
    packages = report["dependencies"]
    skipped = [each["name"] for each in packages if "skip_reason" in each]
    answered = len(packages) - len(skipped)
    found = [_line(each, hole) for each in packages for hole in each.get("vulns", [])]
    lines = [
        f"audit: {len(found)} known vulnerabilities in {answered} of {len(packages)} packages",
        *found,
    ]
    if skipped:
        more = f" and {len(skipped) - _SHOWN} more" if len(skipped) > _SHOWN else ""
        lines.append(
            f"audit: the service {service!r} knows nothing of {', '.join(skipped[:_SHOWN])}{more}: "
            "they were not audited. A mirror of the index often has no such answers; run it where "
            "https://pypi.org or https://api.osv.dev (SERVICE=osv) is reached"
        )
    if not packages:
        lines.append("audit: no package was asked about; is the file of constraints empty?")
    if found:
        return Verdict(lines, FOUND)
    return Verdict(lines, UNANSWERED if skipped or not packages else os.EX_OK)


def _line(package: Mapping[str, Any], hole: Mapping[str, Any]) -> str:
    mended = ", ".join(hole["fix_versions"]) or "no version"
    names = ", ".join([hole["id"], *hole.get("aliases", [])])
    return f"  {package['name']} {package['version']}: {names}; mended in {mended}"


def bill(program: Path, python: Path, out: Path) -> Verdict:
    """Write what is installed in an environment, as CycloneDX."""
    command: list[str | Path] = [program, "environment", "--pyproject", "pyproject.toml"]
    command += ["--output-reproducible", "--of", "JSON", "-o", out, python]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return Verdict([f"bill of materials: {done.stderr.strip():.500}"], FOUND)
    components = json.loads(out.read_text())["components"]
    return Verdict([f"bill of materials: {len(components)} components in {out}"], os.EX_OK)


if __name__ == "__main__":
    sys.exit(main())
