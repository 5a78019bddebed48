"""Which browser the tests drive, and how a machine without one gets it.

    python -m tests.browser.browsers

is a part of the test set-up. It never fails: without a browser these tests are skipped, and say so.
"""

import os
import shutil
import subprocess
import sys

from playwright.sync_api import sync_playwright

NAMED = "EDICT_TEST_BROWSER"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_SECONDS = 300
MISSING = (
    "no Chromium on this machine: install Debian's (apt-get install chromium) or Playwright's "
    f"(playwright install chromium), or name one in {NAMED}"
)


def find_browser() -> str | None:
    """The path of a Chromium; None where there is none."""
    with sync_playwright() as playwright:
        bundled = playwright.chromium.executable_path
    for path in (os.environ.get(NAMED), bundled, *map(shutil.which, NAMES)):
        if path and shutil.which(path):
            return path
    return None


def ways_to_install() -> list[list[str]]:
    """Commands that may bring one, in the order in which they are tried."""
    ways = [[sys.executable, "-m", "playwright", "install", "--only-shell", "chromium"]]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        quietly = ["apt-get", "-qq", "-o", "Acquire::Retries=2"]
        install = [*quietly, "install", "--yes", "--no-install-recommends", "chromium"]
        ways = [[*quietly, "update"], install, *ways]
    return ways


def main() -> None:
    """Look for a browser, and try to install one where there is none."""
    for command in ways_to_install():
        if found := find_browser():
            print(f"browser: {found}")
            return
        run(command)
    print(f"browser: {find_browser() or MISSING}")


def run(command: list[str]) -> None:
    """Try a command, and say in a line if it came to nothing."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        subprocess.run(
            command,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
    except (subprocess.SubprocessError, OSError) as error:
        print(f"browser: {command[0]} … {command[-1]} did not help ({type(error).__name__})")


if __name__ == "__main__":
    main()
